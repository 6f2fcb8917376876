"""What all masked-image-modelling algorithms here share: sizes, schedule, held-out loss, pictures."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from mmengine.logging import MessageHub
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor

from vasomim.masking import MaskPlan, mask_to_pixels, plan_of_units
from vasomim.models.consistency import stack_anatomy
from vasomim.registry import MODELS

HELD_OUT_SEED = 2602


@dataclass(frozen=True)
class Reconstruction:
    """What a picture of a masked and reconstructed batch needs.

    Attributes:
        original: Normalized frames, (B, 3, H, W).
        guidance: Vessel guidance in [0, 1], (B, 1, H, W); None for a method without guidance.
        mask: (B, 1, H, W), 1 = masked.
        reconstruction: Normalized frames, (B, 3, H, W); masked patches from the model, visible ones from the original.
    """

    original: Tensor
    guidance: Tensor | None
    mask: Tensor
    reconstruction: Tensor


@dataclass(frozen=True)
class Evidence:
    """What is known of the vessels in a batch.

    Attributes:
        anatomy: Extracted vessels in {0, 1}, (B, 1, H, W); None where the data carries none.
        vessels: The segmentor's vessel probability in [0, 1], (B, 1, H, W); None where no segmentor is asked.
        guidance: What guides the masks, in [0, 1], (B, 1, H, W); None for uniform masks.
    """

    anatomy: Tensor | None = None
    vessels: Tensor | None = None
    guidance: Tensor | None = None


class MaskedImageModeling(BaseSelfSupervisor):
    """Base of the algorithms: an encoder sees visible patches, a decoder predicts the pixels of the masked ones.

    The size is said once, in the backbone: the decoder's input width, the number of patches and the patch size follow
    from it where their configs don't say them.

    Args:
        backbone: Config of a :class:`~vasomim.models.masked_vit.MaskedViT`.
        neck: Config of the decoder.
        head: Config of a :class:`~vasomim.models.heads.ReconstructionHead`.
        masking: Config of the masking module.
        data_preprocessor: Config of the preprocessor, by default ``AngiogramPreprocessor``.
        init_cfg: mmengine's initialization config.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        masking: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        encoder = MODELS.build(backbone)
        neck, head = copy.deepcopy(neck), copy.deepcopy(head)
        neck.setdefault('embed_dim', encoder.embed_dims)
        neck.setdefault('patch_size', encoder.patch_size)
        if neck.get('type') == 'MAEPretrainDecoder':
            neck.setdefault('num_patches', encoder.num_patches)
        head.setdefault('patch_size', encoder.patch_size)
        super().__init__(
            backbone=encoder,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor or {'type': 'AngiogramPreprocessor'},
            init_cfg=init_cfg,
        )
        self.masking = MODELS.build(masking)
        self._progress: float | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row."""
        rows, columns = self.backbone.patch_resolution
        return rows, columns

    @property
    def progress(self) -> float:
        """Share of the training that the current epoch completes, (epoch + 1) / epochs, in (0, 1].

        Set it to fix the share outside of a training, None to follow the running one again.

        Raises:
            RuntimeError: If no training runs and no share was set.
        """
        if self._progress is not None:
            return self._progress
        return training_progress()

    @progress.setter
    def progress(self, value: float | None) -> None:
        self._progress = value

    def evidence(self, frames: Tensor, samples: list | None) -> Evidence:
        """The vessels of a batch, as far as this method or its log asks for them."""
        if samples and all('anatomy' in sample for sample in samples):
            return Evidence(anatomy=stack_anatomy(samples))
        return Evidence()

    def draw(self, frames: Tensor, evidence: Evidence) -> MaskPlan:
        """Masks of a batch."""
        return self.masking(frames.shape[0], self.grid, frames.device)

    def predict_patches(self, frames: Tensor, plan: MaskPlan) -> Tensor:
        """Predictions of all patches under a mask, (B, L, p * p * 3)."""
        raise NotImplementedError

    def losses(self, frames: Tensor, evidence: Evidence, plan: MaskPlan) -> dict[str, Tensor]:
        """Loss terms of a batch under given masks; VasoMIM adds its own."""
        patches = self.predict_patches(frames, plan)
        return {'loss_rec': self.head.loss(patches, frames, plan.mask)}

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Loss terms of a batch, and ``vessel_masked``: the share of its vessel pixels that is masked.

        Args:
            inputs: Normalized frames, (B, 3, H, W).
            data_samples: Samples with ``anatomy``, uint8 (1, H, W) in {0, 1}, where the method asks for it.
        """
        evidence = self.evidence(inputs, data_samples)
        plan = self.draw(inputs, evidence)
        losses = self.losses(inputs, evidence, plan)
        if evidence.anatomy is not None:
            losses['vessel_masked'] = masked_share(evidence.anatomy, self.pixels(plan.mask))
        return losses

    def extract_feat(self, inputs: Tensor) -> tuple:
        """Features of whole frames, as mmpretrain's ``VisionTransformer`` gives them."""
        return self.backbone(inputs, None)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'):
        """Mmengine's entry: features (``tensor``), losses (``loss``) or samples with ``loss_rec`` (``predict``)."""
        if mode == 'predict':
            return self.predict(inputs, data_samples or [])
        return super().forward(inputs, data_samples, mode)

    def predict(self, frames: Tensor, samples: list) -> list:
        """Reconstruction loss of held-out frames under fixed uniform masks, of the units that the method masks.

        The mask of a frame depends on its ``sample_idx`` alone, so that epochs compare, and methods that share mask
        ratio, unit and target.
        """
        unit = self.masking.unit
        units = (self.grid[0] // unit, self.grid[1] // unit)
        indices = [sample.metainfo.get('sample_idx', place) for place, sample in enumerate(samples)]
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        scores = torch.rand(max(indices) + 1, units[0] * units[1], generator=generator)[indices].to(frames.device)
        plan = plan_of_units(scores, units, self.masking.ratio, unit)
        errors = self.head.loss_per_frame(self.predict_patches(frames, plan), frames, plan.mask)
        for sample, error in zip(samples, errors, strict=True):
            sample.set_field(error, 'loss_rec', field_type='data')
        return samples

    @torch.no_grad()
    def reconstruct(self, frames: Tensor, samples: list | None = None) -> Reconstruction:
        """Mask a batch as in training and reconstruct it.

        Args:
            frames: Normalized frames, (B, 3, H, W).
            samples: Samples with ``anatomy`` where the method asks for it.
        """
        evidence = self.evidence(frames, samples)
        plan = self.draw(frames, evidence)
        folded = self.head.fold(self.predict_patches(frames, plan), frames)
        mask = self.pixels(plan.mask)
        return Reconstruction(frames, evidence.guidance, mask, torch.where(mask > 0, folded, frames))

    def pixels(self, mask: Tensor) -> Tensor:
        """A patch mask (B, L) at pixel resolution, (B, 1, H, W)."""
        return mask_to_pixels(mask, self.grid, self.backbone.patch_size)


def masked_share(anatomy: Tensor, mask: Tensor) -> Tensor:
    """Share of a batch's vessel pixels that is masked, in [0, 1]; 0 where there is no vessel.

    Args:
        anatomy: (B, 1, H, W) in {0, 1}.
        mask: (B, 1, H, W) in {0, 1}.
    """
    vessels = anatomy.float()
    return (vessels * mask).sum() / vessels.sum().clamp_min(1)


def training_progress() -> float:
    """Share of the running training that its current epoch (or iteration, where it counts those) completes.

    Raises:
        RuntimeError: If no training runs.
    """
    hub = MessageHub.get_current_instance()
    info = hub.runtime_info
    if info.get('max_epochs', 0) > 1:
        return (info['epoch'] + 1) / info['max_epochs']
    if info.get('max_iters', 0) > 0:
        return (info['iter'] + 1) / info['max_iters']
    raise RuntimeError(
        'No training runs here, so the strength of the guidance is unknown: set model.progress (1.0 is the last epoch).'
    )
