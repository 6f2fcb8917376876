"""The pre-training methods: VasoMIM and its baselines."""

from __future__ import annotations

from torch import Tensor

from vasomim.errors import ConfigError
from vasomim.masking import MaskPlan, pool_guidance
from vasomim.models.base import Evidence, MaskedImageModeling
from vasomim.models.consistency import stack_anatomy, vessel_guidance
from vasomim.registry import MODELS


@MODELS.register_module()
class AngiogramMAE(MaskedImageModeling):
    """Masked autoencoder on angiograms: uniform masks, reconstruction alone.

    mmpretrain's MAE with the masks drawn by a module of its own, so that methods differ in nothing but the method.

    Source: MAE (arXiv 2111.06377).
    """

    def predict_patches(self, frames: Tensor, plan: MaskPlan) -> Tensor:
        """Encode the visible patches, decode all of them."""
        return self.neck(self.backbone(frames, plan), plan.ids_restore)


@MODELS.register_module()
class AngiogramSimMIM(MaskedImageModeling):
    """SimMIM with a plain ViT: mask tokens in the encoder, one linear layer as decoder.

    Source: SimMIM (arXiv 2111.09886).
    """

    def predict_patches(self, frames: Tensor, plan: MaskPlan) -> Tensor:
        """Encode all patches, masked ones as tokens; predict each from its token."""
        return self.neck(self.backbone(frames, plan))


@MODELS.register_module()
class VasoMIM(AngiogramMAE):
    """VasoMIM: anatomy-guided masking and anatomical consistency.

    Args:
        segmentor: Config of the frozen vessel segmentor.
        eta: Weight of the extracted anatomy in the guidance, in [0, 1]; 1 is VasoMIM-v1.
        guided: Whether vessels guide the masks; False masks uniformly.
        consistency: Config of the consistency loss; None leaves it out.
        backbone, neck, head, masking, data_preprocessor, init_cfg: As in
            :class:`~vasomim.models.base.MaskedImageModeling`; ``masking`` is an
            :class:`~vasomim.masking.AnatomyMasking`.

    Raises:
        ConfigError: If eta leaves [0, 1].

    Source: arXiv 2602.11536; v1: arXiv 2508.10794.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        masking: dict,
        segmentor: dict,
        eta: float = 0.5,
        guided: bool = True,
        consistency: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not 0 <= eta <= 1:
            raise ConfigError('model.eta', f'{eta} leaves [0, 1].', 'Take 0.5 for VasoMIM, 1 for VasoMIM-v1.')
        super().__init__(backbone, neck, head, masking, data_preprocessor, init_cfg)
        self.eta, self.guided = eta, guided
        self.segmentor = MODELS.build(segmentor).requires_grad_(False).eval()
        self.consistency = MODELS.build(consistency) if consistency else None

    def evidence(self, frames: Tensor, samples: list | None) -> Evidence:
        """Anatomy of the samples, vessels of the segmentor, and the guidance that they give."""
        if not self.guided and self.consistency is None:
            return super().evidence(frames, samples)
        asks_segmentor = self.consistency is not None or self.eta < 1
        vessels = self.segmentor.probability(frames) if asks_segmentor else None
        if not self.guided:
            return Evidence(super().evidence(frames, samples).anatomy, vessels)
        anatomy = stack_anatomy(samples or [])
        return Evidence(anatomy, vessels, vessel_guidance(anatomy, vessels if self.eta < 1 else None, self.eta))

    def draw(self, frames: Tensor, evidence: Evidence) -> MaskPlan:
        """Masks that prefer vessels, the more so the further the training is."""
        if evidence.guidance is None:
            return self.masking(frames.new_zeros(frames.shape[0], self.grid[0] * self.grid[1]), 0.0)
        return self.masking(pool_guidance(evidence.guidance, self.backbone.patch_size), self.progress)

    def losses(self, frames: Tensor, evidence: Evidence, plan: MaskPlan) -> dict[str, Tensor]:
        """Reconstruction of the masked patches, and consistency of the vessels in the whole prediction."""
        patches = self.predict_patches(frames, plan)
        losses = {'loss_rec': self.head.loss(patches, frames, plan.mask)}
        if self.consistency is not None and evidence.vessels is not None:
            logits = self.segmentor.logits(self.head.fold(patches, frames))
            losses['loss_cons'] = self.consistency(logits, evidence.vessels)
        return losses

    def train(self, mode: bool = True) -> VasoMIM:
        """Switch the mode; the segmentor stays in evaluation mode."""
        super().train(mode)
        self.segmentor.eval()
        return self

    def init_weights(self) -> None:
        """Initialize everything but the segmentor: an initializer of the whole model reaches into its children too."""
        kept = {name: tensor.clone() for name, tensor in self.segmentor.state_dict().items()}
        super().init_weights()
        self.segmentor.load_state_dict(kept)
