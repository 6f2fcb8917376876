"""Masked image modelling, composed of registered parts: encoder x decoder x masking x guidance x losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn

from vasomim.errors import ConfigError
from vasomim.masking import Masking, MaskPlan, MaskRequest, mask_to_pixels, plan_of_units, pool_guidance
from vasomim.models.pretraining.evidence import Evidence, MaskedBatch, stack_anatomy
from vasomim.models.pretraining.parts import (
    Guidance,
    LossTerm,
    build_encoder,
    build_part,
    check_masking,
    check_needs,
    check_network,
    with_sizes,
)
from vasomim.registry import MODELS

HELD_OUT_SEED = 2602


@dataclass(frozen=True)
class Reconstruction:
    """What a picture of a masked and reconstructed batch needs.

    Attributes:
        original: Normalized frames, (B, 3, H, W).
        guidance: What guides the masks, in [0, 1], (B, 1, H, W); None for a method without guidance.
        mask: (B, 1, H, W), 1 = masked.
        reconstruction: Normalized frames, (B, 3, H, W); masked patches from the model, visible ones from the original.
    """

    original: Tensor
    guidance: Tensor | None
    mask: Tensor
    reconstruction: Tensor


@MODELS.register_module()
class MaskedImageModeling(BaseSelfSupervisor):
    """An encoder sees frames through masks, a decoder predicts the pixels of the masked patches.

    MAE, SimMIM, VasoMIM and what lies between them are configs of this class. A method that differs in a step derives
    from it and overrides that step: ``evidence`` (what is known of the vessels), ``draw`` (the masks),
    ``predict_patches`` (the network) or ``losses``. The size is said once, in the backbone: decoders and heads take
    theirs from it where their configs don't say it.

    Args:
        backbone: Config of a :class:`~vasomim.models.masked_vit.MaskedViT`.
        neck: Config of the decoder, which is called with the encoder's tokens and ``ids_restore``.
        head: Config of a :class:`~vasomim.models.pretraining.heads.ReconstructionHead`.
        masking: Config of a :class:`~vasomim.masking.Masking`.
        guidance: Config of a :class:`~vasomim.models.pretraining.parts.Guidance`; None for masks without.
        segmentor: Config of the frozen vessel segmentor that guidance and losses ask; None for a model without.
        losses: Configs of the :class:`~vasomim.models.pretraining.parts.LossTerm` beside the reconstruction's, by
            name: ``cons`` is logged as ``loss_cons``. One that is None is left out.
        data_preprocessor: Config of the preprocessor, by default ``AngiogramPreprocessor``.
        init_cfg: mmengine's initialization config; it spares the segmentor.

    Attributes:
        gives: What ``evidence`` of a derived class brings by itself, such as ``('guidance',)``.
        needs: What the parts read: 'guidance', 'segmentor', 'anatomy'.

    Raises:
        ConfigError: If the parts do not fit each other.
    """

    gives: tuple[str, ...] = ()

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        masking: dict,
        guidance: dict | None = None,
        segmentor: dict | None = None,
        losses: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        encoder = build_encoder(backbone)
        super().__init__(
            backbone=encoder,
            neck=with_sizes(neck, encoder),
            head=with_sizes(head, encoder),
            data_preprocessor=data_preprocessor or {'type': 'AngiogramPreprocessor'},
            init_cfg=init_cfg,
        )
        check_network(encoder, self.neck, self.head)
        self.masking = build_part(masking, Masking, 'model.masking')
        check_masking(self.masking, self.grid)
        self.guidance = build_part(guidance, Guidance, 'model.guidance') if guidance else None
        self.segmentor: Any = build_segmentor(segmentor) if segmentor else None
        self.terms = build_terms(losses or {})
        parts: dict[str, nn.Module | None] = {'model.masking': self.masking, 'model.guidance': self.guidance}
        parts.update({f'model.losses.{name}': term for name, term in self.terms.items()})
        given = [name for name in ('guidance', 'segmentor') if getattr(self, name) is not None]
        self.needs = check_needs(parts, [*given, *self.gives])
        self._progress: float | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and per row."""
        rows, columns = self.backbone.patch_resolution
        return rows, columns

    @property
    def progress(self) -> float | None:
        """Share of the training that the current epoch completes, (epoch + 1) / epochs; None where none runs.

        Set it to fix the share outside of a training, None to follow the running one again.
        """
        return training_progress() if self._progress is None else self._progress

    @progress.setter
    def progress(self, value: float | None) -> None:
        self._progress = value

    def build_decoder(self, config: dict) -> nn.Module:
        """Build a further decoder, of the encoder's sizes where its config leaves them out."""
        return MODELS.build(with_sizes(config, self.backbone))

    def evidence(self, frames: Tensor, samples: list | None) -> Evidence:
        """The vessels of a batch, as far as this method or its log asks for them, and the guidance that they give."""
        vessels = self.segmentor.probability(frames) if 'segmentor' in self.needs else None
        stored = bool(samples) and all('anatomy' in sample for sample in samples or ())
        anatomy = stack_anatomy(samples or []) if stored or 'anatomy' in self.needs else None
        known = Evidence(anatomy, vessels)
        return known if self.guidance is None else replace(known, guidance=self.guidance(frames, known))

    def draw(self, frames: Tensor, evidence: Evidence) -> MaskPlan:
        """Masks of a batch."""
        guidance = evidence.guidance
        if guidance is not None:
            guidance = pool_guidance(guidance, guidance.shape[-2] // self.grid[0])
        return self.masking(MaskRequest(len(frames), self.grid, frames.device, guidance, self.progress))

    def predict_patches(self, frames: Tensor, plan: MaskPlan) -> Tensor:
        """Predictions of all patches under a mask, (B, L, p * p * 3)."""
        return self.neck(self.backbone(frames, plan), self.backbone.ids_restore(plan))

    def losses(self, frames: Tensor, evidence: Evidence, plan: MaskPlan) -> dict[str, Tensor]:
        """Loss terms of a batch under given masks."""
        patches = self.predict_patches(frames, plan)
        batch = MaskedBatch(frames, evidence, plan, patches, self.head, self.segmentor)
        losses = {'loss_rec': self.head.loss(patches, frames, plan.mask)}
        losses.update({f'loss_{name}': term(batch) for name, term in self.terms.items()})
        return losses

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
        mask, guidance = self.pixels(plan.mask), evidence.guidance
        if guidance is not None and guidance.shape[-2:] != frames.shape[-2:]:
            guidance = F.interpolate(guidance, frames.shape[-2:], mode='nearest')
        return Reconstruction(frames, guidance, mask, torch.where(mask > 0, folded, frames))

    def pixels(self, mask: Tensor) -> Tensor:
        """A patch mask (B, L) at pixel resolution, (B, 1, H, W)."""
        return mask_to_pixels(mask, self.grid, self.backbone.patch_size)

    def train(self, mode: bool = True) -> MaskedImageModeling:
        """Switch the mode; the segmentor stays in evaluation mode."""
        super().train(mode)
        if self.segmentor is not None:
            self.segmentor.eval()
        return self

    def init_weights(self) -> None:
        """Initialize everything but the segmentor: an initializer of the whole model reaches into its children too."""
        frozen = self.segmentor
        kept = {name: tensor.clone() for name, tensor in frozen.state_dict().items()} if frozen is not None else {}
        super().init_weights()
        if frozen is not None:
            frozen.load_state_dict(kept)


def build_terms(configs: Any) -> nn.ModuleDict:
    """Build the losses beside the reconstruction's; one that is None is left out.

    Raises:
        ConfigError: If they have no names, or one does not fit.
    """
    if not isinstance(configs, Mapping):
        cure = 'Name each: losses=dict(cons=dict(type=AnatomicalConsistencyLoss)).'
        raise ConfigError('model.losses', f'a {type(configs).__name__} gives its losses no names.', cure)
    return nn.ModuleDict(
        {
            name: build_part(config, LossTerm, f'model.losses.{name}')
            for name, config in configs.items()
            if config is not None
        }
    )


def build_segmentor(config: dict) -> nn.Module:
    """Build the vessel segmentor, frozen.

    Raises:
        ConfigError: If it gives no vessels.
    """
    segmentor = MODELS.build(config)
    if not all(callable(getattr(segmentor, method, None)) for method in ('logits', 'probability')):
        what = f'{type(segmentor).__name__} has no methods logits and probability.'
        raise ConfigError('model.segmentor', what, 'Take UNeXt, or give it both: frames (B, 3, H, W) to (B, 1, H, W).')
    return segmentor.requires_grad_(False).eval()


def masked_share(anatomy: Tensor, mask: Tensor) -> Tensor:
    """Share of a batch's vessel pixels that is masked, in [0, 1]; 0 where there is no vessel.

    Args:
        anatomy: (B, 1, H, W) in {0, 1}.
        mask: (B, 1, H, W) in {0, 1}.
    """
    vessels = anatomy.float()
    return (vessels * mask).sum() / vessels.sum().clamp_min(1)


def training_progress() -> float | None:
    """Share of the running training that its current epoch (or iteration, where it counts those) completes.

    None where no training runs.
    """
    info = MessageHub.get_current_instance().runtime_info
    if info.get('max_epochs', 0) > 1:
        return (info['epoch'] + 1) / info['max_epochs']
    if info.get('max_iters', 0) > 0:
        return (info['iter'] + 1) / info['max_iters']
    return None
