"""Plain ViT encoders that see a frame through a mask."""

from __future__ import annotations

import torch
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.selfsup.mae import MAEViT
from torch import Tensor, nn

from vasomim.errors import ConfigError, did_you_mean
from vasomim.masking import MaskPlan
from vasomim.registry import MODELS

# Names of this field to mmpretrain's: its own 'small' is another model (768 wide, 8 deep).
ARCHITECTURES = {'tiny': 'deit-tiny', 'small': 'deit-small', 'base': 'base', 'large': 'large', 'huge': 'huge'}


def architecture(arch: str | dict) -> dict:
    """Return embed_dims, num_layers, num_heads and feedforward_channels of an encoder.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or 'huge', or the dict itself.

    Raises:
        ConfigError: If there is no such size.
    """
    if isinstance(arch, str):
        if arch not in ARCHITECTURES:
            raise ConfigError(
                'model.backbone.arch',
                f"there is no ViT '{arch}'.{did_you_mean(arch, ARCHITECTURES)}",
                f'Choose one of {", ".join(ARCHITECTURES)}, or pass a dict.',
            )
        return dict(VisionTransformer.arch_zoo[ARCHITECTURES[arch]])
    return dict(arch)


@MODELS.register_module()
class MaskedViT(MAEViT):
    """ViT that encodes the visible patches only, as in MAE.

    The tensors are named as in mmpretrain's ``VisionTransformer``, so that a pre-trained encoder loads there as it is.

    Args:
        arch: 'tiny', 'small', 'base', 'large' or 'huge', or a dict with embed_dims, num_layers, num_heads and
            feedforward_channels.
        patch_size: Side of a patch in pixels; None for 14 (huge) or 16 (all others).
        img_size: Side of a frame in pixels.
        checkpointing: Recompute each layer in the backward pass instead of keeping its activations.
        **kwargs: Further arguments of mmpretrain's ``MAEViT``.

    Attributes:
        encodes_masked: Whether masked patches are encoded too, each in its place.

    Raises:
        ConfigError: If the architecture is unknown.
    """

    encodes_masked = False

    def __init__(
        self,
        arch: str | dict = 'base',
        patch_size: int | None = None,
        img_size: int = 224,
        checkpointing: bool = False,
        **kwargs,
    ) -> None:
        if patch_size is None:
            patch_size = 14 if arch == 'huge' else 16
        super().__init__(
            arch=architecture(arch),
            img_size=img_size,
            patch_size=patch_size,
            **kwargs,
        )
        self.patch_size = patch_size
        self.checkpointing = checkpointing

    def forward(self, x: Tensor, plan: MaskPlan | None = None) -> Tensor | tuple:
        """Encode frames.

        Args:
            x: Normalized frames, (B, 3, H, W).
            plan: The masks; None for the features of whole frames, as mmpretrain's ``VisionTransformer`` gives them.

        Returns:
            (B, 1 + K, C): class token and visible patches; a tuple of features without a plan.
        """
        if plan is None:
            return super().forward(x, mask=None)
        tokens = self.patch_embed(x)[0] + self.pos_embed[:, 1:]
        tokens = tokens.gather(1, plan.ids_keep.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        return self.encode(tokens)

    def ids_restore(self, plan: MaskPlan) -> Tensor:
        """The place of each patch, (B, L), in the sequence "tokens of :meth:`forward`, then mask tokens"."""
        return plan.ids_restore

    def encode(self, tokens: Tensor) -> Tensor:
        """Run the layers over the class token and position-embedded patch tokens, (B, K, C) to (B, 1 + K, C)."""
        class_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        tokens = torch.cat((class_token, tokens), dim=1)
        for layer in self.layers:
            if self.checkpointing and torch.is_grad_enabled():
                tokens = torch.utils.checkpoint.checkpoint(layer, tokens, use_reentrant=False)
            else:
                tokens = layer(tokens)
        return self.norm1(tokens)


@MODELS.register_module()
class MaskTokenViT(MaskedViT):
    """ViT that encodes all patches, the masked ones replaced by a learned token, as in SimMIM.

    Args:
        **kwargs: Arguments of :class:`MaskedViT`.

    Source: SimMIM (arXiv 2111.09886).
    """

    encodes_masked = True

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims))

    def init_weights(self) -> None:
        """Initialize as MAE's encoder, and the mask token."""
        super().init_weights()
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, plan: MaskPlan | None = None) -> Tensor | tuple:
        """Encode frames: (B, 1 + L, C) with a plan, mmpretrain's tuple of features without one."""
        if plan is None:
            return super().forward(x)
        tokens = self.patch_embed(x)[0]
        mask = plan.mask.unsqueeze(-1).to(tokens.dtype)
        tokens = tokens * (1 - mask) + self.mask_token * mask + self.pos_embed[:, 1:]
        return self.encode(tokens)

    def ids_restore(self, plan: MaskPlan) -> Tensor:
        """The place of each patch among the tokens, (B, L): its own."""
        return torch.arange(plan.mask.shape[1], device=plan.mask.device).expand_as(plan.ids_restore)
