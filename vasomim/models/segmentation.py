"""Segmentation with a plain ViT in mmseg: the encoder's maps and the frame itself into a UNet-style decoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn import functional

from vasomim import compat

compat.prepare()

from mmseg.models.decode_heads.decode_head import BaseDecodeHead  # noqa: E402
from mmseg.models.segmentors import EncoderDecoder  # noqa: E402
from mmseg.registry import MODELS  # noqa: E402

from vasomim.errors import ConfigError  # noqa: E402
from vasomim.models import plain_vit, rotary_vit, segmentation_losses  # noqa: E402, F401  registers what the configs name


@MODELS.register_module()
class PlainViTSegmentor(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` whose decoder sees the frame as well, and follows the size of the encoder.

    Args:
        backbone: Config of a :class:`~vasomim.models.plain_vit.PlainViT`.
        decode_head: Config of a :class:`PlainViTUNetHead`; its ``in_channels`` is the encoder's width unless said.
        data_preprocessor, train_cfg, test_cfg, init_cfg: As in mmseg's ``EncoderDecoder``.
        pretrained: None, which ``mmseg.apis.init_model`` passes to whatever it builds.

    Raises:
        ConfigError: If ``pretrained`` names weights.
    """

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        if pretrained is not None:
            raise ConfigError(
                'model.pretrained',
                f'{pretrained!r}: this model takes no weights by this key.',
                "Pass --init CHECKPOINT for the encoder's weights, or set load_from for those of the whole model.",
            )
        super().__init__(
            backbone=backbone,
            decode_head=decode_head,
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )

    def _init_decode_head(self, decode_head: dict) -> None:
        super()._init_decode_head({'in_channels': self.backbone.embed_dims, **decode_head})

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's maps, and behind them the frames, (B, 3, H, W)."""
        return (*self.backbone(inputs), inputs)


@MODELS.register_module()
class PlainViTUNetHead(BaseDecodeHead):
    """UNet-style decoder for the maps of a plain ViT, which all have the stride of its patches (16).

    The deepest map stays at stride 16; those before it are brought to strides 8, 4 and 2 by one, two and three
    transposed convolutions; the frame itself passes a convolutional stem at stride 1. From the deepest map upward, each
    level doubles the size, joins the skip of its stride and applies two 3 x 3 convolutions, each with GroupNorm and
    ReLU: batches are small, and so a frame's result does not depend on its batch. With another patch size the levels
    keep these ratios and the last one is interpolated to the frame.

    Args:
        in_channels: Width of the encoder.
        widths: Channels at strides 16, 8, 4, 2 and 1; multiples of ``groups``.
        num_classes: Classes with the background. Two are predicted by one logit and a threshold of 0.5, more by one
            logit each.
        loss_decode: Configs of losses that take logits (B, 1 or classes, H, W) and labels (B, H, W).
        groups: Groups of the GroupNorms.
        ignore_index: Label that no loss counts.
        init_cfg: mmengine's initialization config.

    Raises:
        ValueError: If there are not five widths.

    Source: a choice of this project; token maps brought to a UNet's strides: UNETR (arXiv 2103.10504).
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        num_classes: int = 2,
        loss_decode: Sequence[dict] = (
            dict(type='SoftDiceLoss'),
            dict(type='CrossEntropyLoss', use_sigmoid=True, avg_non_ignore=True, loss_name='loss_bce'),
        ),
        groups: int = 8,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        if len(widths) != 5:
            raise ValueError(f'five widths are needed, for strides 16, 8, 4, 2 and 1, not {list(widths)}')
        super().__init__(
            in_channels=[in_channels] * 4,
            in_index=[0, 1, 2, 3],
            input_transform='multiple_select',
            channels=widths[-1],
            num_classes=num_classes,
            out_channels=1 if num_classes == 2 else num_classes,
            threshold=0.5 if num_classes == 2 else None,
            dropout_ratio=0.0,
            loss_decode=list(loss_decode),
            ignore_index=ignore_index,
            init_cfg=init_cfg,
        )
        self.bottom = block(in_channels, widths[0], groups)
        self.skips = nn.ModuleList(
            [
                raised(in_channels, widths[1], times=1, groups=groups),
                raised(in_channels, widths[2], times=2, groups=groups),
                raised(in_channels, widths[3], times=3, groups=groups),
                block(3, widths[4], groups),
            ]
        )
        steps = list(pairwise(widths))
        self.ups = nn.ModuleList([nn.ConvTranspose2d(wide, narrow, 2, stride=2) for wide, narrow in steps])
        self.blocks = nn.ModuleList([block(2 * narrow, narrow, groups) for _, narrow in steps])

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Decode.

        Args:
            inputs: Four maps (B, C, h, w) from the shallowest to the deepest, and the frames (B, 3, H, W).

        Returns:
            Logits, (B, 1 or classes, H, W).
        """
        *shallow, deep, frames = inputs
        x = self.bottom(deep)
        for up, skip, fuse, source in zip(self.ups, self.skips, self.blocks, (*reversed(shallow), frames), strict=True):
            x, aside = up(x), skip(source)
            if x.shape[-2:] != aside.shape[-2:]:  # Another patch size than 16: only at the frame's own resolution.
                x = functional.interpolate(x, size=aside.shape[-2:], mode='bilinear', align_corners=False)
            x = fuse(torch.cat((x, aside), dim=1))
        return self.cls_seg(x)

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Return the loss terms by name; without mmseg's accuracy, which the background dominates."""
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        return {loss.loss_name: loss(seg_logits, labels, ignore_index=self.ignore_index) for loss in self.loss_decode}


def block(channels: int, width: int, groups: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with GroupNorm and ReLU."""
    options = dict(kernel_size=3, padding=1, norm_cfg=dict(type='GN', num_groups=groups))
    return nn.Sequential(ConvModule(channels, width, **options), ConvModule(width, width, **options))


def raised(channels: int, width: int, times: int, groups: int) -> nn.Sequential:
    """Transposed convolutions that double the size ``times`` times, with GroupNorm and ReLU."""
    steps = []
    for step in range(times):
        steps += [
            nn.ConvTranspose2d(width if step else channels, width, 2, stride=2),
            nn.GroupNorm(groups, width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*steps)
