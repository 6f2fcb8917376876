"""Guidance: where in a frame the masks should fall."""

from __future__ import annotations

from torch import Tensor

from vasomim.errors import ConfigError
from vasomim.models.pretraining.evidence import Evidence
from vasomim.models.pretraining.parts import Guidance
from vasomim.registry import MODELS


@MODELS.register_module()
class VesselGuidance(Guidance):
    """Guidance by vessels: extracted ones, the segmentor's, or both.

    Args:
        eta: Weight of the extraction, in [0, 1]; the rest is the segmentor's. 0.5 is VasoMIM, 1 (the extraction alone)
            VasoMIM-v1, 0 the segmentor alone.

    Raises:
        ConfigError: If eta leaves [0, 1].

    Source: arXiv 2602.11536; v1: arXiv 2508.10794.
    """

    def __init__(self, eta: float = 0.5) -> None:
        super().__init__()
        if not 0 <= eta <= 1:
            cure = 'Take 0.5 for VasoMIM, 1 for VasoMIM-v1.'
            raise ConfigError('model.guidance.eta', f'{eta} leaves [0, 1].', cure)
        self.eta = eta
        self.needs = (*(('anatomy',) if eta > 0 else ()), *(('segmentor',) if eta < 1 else ()))

    def forward(self, frames: Tensor, evidence: Evidence) -> Tensor:
        """Return the guidance of a batch, (B, 1, H, W) in [0, 1]."""
        anatomy = evidence.anatomy if self.eta > 0 else None
        return vessel_guidance(anatomy, evidence.vessels if self.eta < 1 else None, self.eta)


def vessel_guidance(anatomy: Tensor | None, vessels: Tensor | None, eta: float) -> Tensor:
    """Guidance G = eta B + (1 - eta) sigmoid(S(I)).

    Args:
        anatomy: Extracted vessels B in {0, 1}, (B, 1, H, W); not needed for eta = 0.
        vessels: Vessel probability of the segmentor in [0, 1], the same shape; not needed for eta = 1.
        eta: Weight of the extraction in [0, 1]; 1 is VasoMIM-v1.

    Returns:
        float (B, 1, H, W) in [0, 1].

    Raises:
        ValueError: If there is neither of the two.

    Source: arXiv 2602.11536; eta = 1: arXiv 2508.10794.
    """
    if anatomy is not None and vessels is not None:
        return eta * anatomy.float() + (1 - eta) * vessels.float()
    known = anatomy if vessels is None else vessels
    if known is None:
        raise ValueError('Neither extracted vessels nor those of a segmentor are there to guide the masks.')
    return known.float()
