"""The classes that configs and checkpoints of earlier versions name: compositions by their old arguments."""

from __future__ import annotations

from vasomim.models.pretraining.masked import MaskedImageModeling
from vasomim.registry import MODELS


@MODELS.register_module()
class AngiogramMAE(MaskedImageModeling):
    """MAE by its earlier name; see ``configs/pretrain/mae.py``.

    Args:
        backbone, neck, head, masking, data_preprocessor, init_cfg: As in :class:`MaskedImageModeling`.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        masking: dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(backbone, neck, head, masking, data_preprocessor=data_preprocessor, init_cfg=init_cfg)


@MODELS.register_module()
class AngiogramSimMIM(AngiogramMAE):
    """SimMIM by its earlier name; see ``configs/pretrain/simmim.py``."""


@MODELS.register_module()
class VasoMIM(MaskedImageModeling):
    """VasoMIM by its earlier arguments; see ``configs/pretrain/vasomim.py``.

    Args:
        segmentor: As in :class:`MaskedImageModeling`.
        eta: That of :class:`~vasomim.models.pretraining.guidance.VesselGuidance`.
        guided: Whether vessels guide the masks; False masks uniformly, at the ratio of ``masking``.
        consistency: The loss term ``cons``; None leaves it out.
        backbone, neck, head, masking, data_preprocessor, init_cfg: As in :class:`MaskedImageModeling`.

    Raises:
        ConfigError: If eta leaves [0, 1].
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
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(
            backbone,
            neck,
            head,
            masking if guided else {'type': 'UniformMasking', 'ratio': masking.get('ratio', 0.5)},
            guidance={'type': 'VesselGuidance', 'eta': eta} if guided else None,
            segmentor=segmentor,
            losses={'cons': consistency},
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
