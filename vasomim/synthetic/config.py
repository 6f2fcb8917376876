"""What a simulated frame may look like."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class SimulatorConfig:
    """Ranges that frames are drawn from.

    Attributes:
        size: Height and width of the square frame, pixels, >= 64. The field of view does not change with it.
        target: 'LAD', 'LCx', 'RCA' or None (any, 62 % of the left artery as in ARCADE): what is filled and shown.
        angles: The C-arm's primary and secondary angle, degrees, or None: varied standard views of the target.
        dominance: 'left', 'right' or None (both, 88 % right).
        spacing: mm per pixel at the isocenter, of a frame of 512 x 512 pixels.
        stenoses: Fewest and most narrowings in a frame.
        contrast: Attenuation of the filled lumen, 1/mm.
        collimator: How often the collimator's edge is seen.
        catheter: How often the catheter is seen.
        background: Whether the chest is there; without it vessels stand before an even field.
        noise: Strength of the quantum noise, 1 = as in a clinical frame, 0 = none.

    Raises:
        ValueError: If a value leaves its range.
    """

    size: int = 512
    target: str | None = None
    angles: tuple[float, float] | None = None
    dominance: str | None = None
    spacing: Range = (0.2, 0.3)
    stenoses: tuple[int, int] = (0, 3)
    contrast: Range = (0.11, 0.3)
    collimator: float = 0.42
    catheter: float = 0.95
    background: bool = True
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.size < 64:
            raise ValueError(f'size must be at least 64 pixels, not {self.size}')
        if self.target not in ('LAD', 'LCx', 'RCA', None):
            raise ValueError(f"target must be 'LAD', 'LCx', 'RCA' or None, not {self.target!r}")
        if self.dominance not in ('left', 'right', None):
            raise ValueError(f"dominance must be 'left', 'right' or None, not {self.dominance!r}")
        for name in ('spacing', 'stenoses', 'contrast'):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name != 'stenoses' and low == 0):
                raise ValueError(f'{name} must be a (lowest, highest) pair of positive values, not {low, high}')
        for name in ('collimator', 'catheter'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} is a probability in [0, 1], not {getattr(self, name)}')
        if self.noise < 0:
            raise ValueError(f'noise must be >= 0, not {self.noise}')
