"""Reconstruction of masked patches: targets, losses and the way back to a frame."""

from __future__ import annotations

from mmengine.model import BaseModule
from mmpretrain.models.heads import MAEPretrainHead
from torch import Tensor, nn

from vasomim.registry import MODELS


@MODELS.register_module()
class ReconstructionHead(MAEPretrainHead):
    """Pixel reconstruction of masked patches.

    Args:
        norm_pix: Normalize each target patch by its own mean and deviation (unbiased variance, eps 1e-6), as MAE does.
        patch_size: Side of a patch in pixels.
        criterion: 'L2' (MAE) or 'L1' (SimMIM).
    """

    def __init__(self, norm_pix: bool = True, patch_size: int = 16, criterion: str = 'L2') -> None:
        super().__init__(
            loss={'type': 'PixelReconstructionLoss', 'criterion': criterion}, norm_pix=norm_pix, patch_size=patch_size
        )

    def loss(self, patches: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Mean error of the masked patches.

        Args:
            patches: Predictions of all patches, (B, L, p * p * 3).
            frames: Normalized frames, (B, 3, H, W).
            mask: (B, L), 1 = masked.
        """
        return super().loss(patches.float(), frames, mask)

    def loss_per_frame(self, patches: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """The same error for each frame by itself, (B,)."""
        return (self.loss_per_patch(patches, frames) * mask).sum(dim=1) / mask.sum(dim=1)

    def loss_per_patch(self, patches: Tensor, frames: Tensor) -> Tensor:
        """The error of each patch by itself, masked or not, (B, L)."""
        return self.loss_module.penalty(patches.float(), self.construct_target(frames)).mean(dim=-1)

    def fold(self, patches: Tensor, frames: Tensor) -> Tensor:
        """Predictions as a frame I', (B, 3, H, W), de-normalized with the mean and deviation of the target's patches.

        Args:
            patches: Predictions of all patches, (B, L, p * p * 3).
            frames: The frames that were predicted, (B, 3, H, W).
        """
        patches = patches.float()
        if self.norm_pix:
            target = self.patchify(frames)
            mean = target.mean(dim=-1, keepdim=True)
            deviation = (target.var(dim=-1, keepdim=True) + 1e-6).sqrt()
            patches = patches * deviation + mean
        return self.unpatchify(patches)


@MODELS.register_module()
class PatchPredictor(BaseModule):
    """One linear layer from each patch token to its pixels, SimMIM's whole decoder.

    It predicts each patch from the patch's own token, so that the encoder has to give the masked ones too.

    Args:
        embed_dim: Width of the tokens.
        patch_size: Side of a patch in pixels.
        init_cfg: mmengine's initialization config.
    """

    needs_all_tokens = True

    def __init__(self, embed_dim: int = 768, patch_size: int = 16, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.pixels = nn.Linear(embed_dim, patch_size**2 * 3)

    def forward(self, tokens: Tensor, ids_restore: Tensor | None = None) -> Tensor:
        """(B, 1 + L, C), in their places, to (B, L, p * p * 3)."""
        return self.pixels(tokens[:, 1:])
