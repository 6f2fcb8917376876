"""Detection with a plain ViT in mmdet: a simple feature pyramid on its last map, under Faster R-CNN."""

from __future__ import annotations

from typing import Any

import torch
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from vasomim import compat

compat.prepare()

from mmdet.models.detectors import FasterRCNN  # noqa: E402
from mmdet.registry import MODELS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.model import BaseModule  # noqa: E402

from vasomim.models import rotary_vit  # noqa: E402, F401  registers what a config may name
from vasomim.models.masked_vit import architecture  # noqa: E402


@MODELS.register_module()
class PlainViTFasterRCNN(FasterRCNN):
    """Faster R-CNN whose feature pyramid follows the size of the encoder, and whose heads compute in float32.

    Under mixed precision the encoder and the pyramid are cast, the heads are not: mmdet decodes boxes in the precision
    of the maps, where bfloat16 holds corners beyond 256 px to 2 px and most scores of a young RPN are equal.

    Args:
        backbone: Config of a :class:`~vasomim.models.plain_vit.PlainViT` with its last layer in ``out_indices``.
        neck: Config of a :class:`SimpleFeaturePyramid`; its ``in_channels`` is the encoder's width unless said.
        **kwargs: Further arguments of mmdet's ``FasterRCNN``.
    """

    def __init__(self, backbone: dict, neck: dict, **kwargs: Any) -> None:
        width = architecture(backbone.get('arch', 'base'))['embed_dims']
        super().__init__(backbone=backbone, neck={'in_channels': width, **neck}, **kwargs)

    def extract_feat(self, batch_inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the pyramid in float32.

        Args:
            batch_inputs: Frames, (B, 3, H, W); or their pyramid, which comes back as it is.
        """
        if isinstance(batch_inputs, tuple):  # mmdet's own `loss` and `predict` ask again.
            return batch_inputs
        return tuple(level.float() for level in super().extract_feat(batch_inputs))

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict:
        """Return the losses of both stages, the heads in float32."""
        maps = self.extract_feat(batch_inputs)
        with torch.autocast(batch_inputs.device.type, enabled=False):
            return super().loss(maps, batch_data_samples)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Add predicted boxes to the samples, the heads in float32."""
        maps = self.extract_feat(batch_inputs)
        with torch.autocast(batch_inputs.device.type, enabled=False):
            return super().predict(maps, batch_data_samples, rescale)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Feature pyramid from the last map of a plain ViT alone.

    At patches of 16 pixels the levels have strides 4, 8, 16, 32 and 64: two transposed convolutions, one, none, a
    maximum pooling, and the pooled coarsest level. Each but the last is then brought to the pyramid's width by a 1 x 1
    and a 3 x 3 convolution, each with a LayerNorm.

    Args:
        in_channels: Width of the encoder.
        out_channels: Width of the pyramid.
        init_cfg: mmengine's initialization config.

    Source: ViTDet (arXiv 2203.16527), simple feature pyramid.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        half, quarter = in_channels // 2, in_channels // 4
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, stride=2),
                    *lateral(quarter, out_channels),
                ),
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                    *lateral(half, out_channels),
                ),
                nn.Sequential(*lateral(in_channels, out_channels)),
                nn.Sequential(nn.MaxPool2d(2), *lateral(in_channels, out_channels)),
            ]
        )

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            maps: The encoder's maps; the last, (B, C, h, w), counts.

        Returns:
            Five maps (B, out_channels, ...) of 4, 2, 1, 1/2 and 1/4 times h and w.
        """
        levels = [level(maps[-1]) for level in self.levels]
        return (*levels, functional.max_pool2d(levels[-1], 1, stride=2))


def lateral(channels: int, width: int) -> list[nn.Module]:
    """Return 1 x 1 and 3 x 3 convolutions with LayerNorm."""
    return [
        nn.Conv2d(channels, width, 1, bias=False),
        LayerNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width),
    ]
