"""Masking: which patches of a frame the encoder does not see.

Pure batched functions, and the registered modules that call them: each is a :class:`Masking`, which turns a
:class:`MaskRequest` into a :class:`MaskPlan`. A whole batch is drawn at once: no loop over the images and no read-back
to the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from vasomim.registry import MODELS


@dataclass(frozen=True)
class MaskRequest:
    """What a masking module may know of a batch.

    Attributes:
        batch: Number of frames.
        grid: Patches per column and per row.
        device: Where the plan is to lie.
        guidance: What guides the masks, per patch, (B, L), >= 0, on ``device``; None where nothing does.
        progress: Share of the training that the current epoch completes, in [0, 1]; None where no training runs.
        generator: Source of randomness, on ``device``; None for PyTorch's own.
    """

    batch: int
    grid: tuple[int, int]
    device: torch.device | str = 'cpu'
    guidance: Tensor | None = None
    progress: float | None = None
    generator: Generator | None = None

    @property
    def num_patches(self) -> int:
        """L, the patches of a frame."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class MaskPlan:
    """Which patches are hidden, in the three forms that encoder, decoder and loss ask for.

    Attributes:
        mask: (B, L) float, 1 = masked.
        ids_keep: (B, K) long, the visible patches in the order in which the encoder sees them.
        ids_restore: (B, L) long, the place of each patch in the sequence "visible, then masked".
    """

    mask: Tensor
    ids_keep: Tensor
    ids_restore: Tensor


def masked_count(num_patches: int, ratio: float) -> int:
    """Number of masked patches, L - int(L (1 - ratio)).

    Raises:
        ValueError: If ``ratio`` is not inside (0, 1), or leaves no visible or no masked patch.
    """
    if not 0 < ratio < 1:
        raise ValueError(f'The mask ratio must lie inside (0, 1), not {ratio}.')
    masked = num_patches - int(num_patches * (1 - ratio))
    if not 0 < masked < num_patches:
        raise ValueError(
            f'A mask ratio of {ratio} hides {masked} of {num_patches} patches; at least one must be '
            'hidden and one visible.'
        )
    return masked


def plan_from_order(scores: Tensor, masked: int) -> MaskPlan:
    """Mask the ``masked`` patches of highest score in each row.

    Args:
        scores: (B, L); ties are broken arbitrarily.
        masked: Number of patches to mask in each row.
    """
    ids_shuffle = scores.argsort(dim=1)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(ids_shuffle)
    ids_restore = torch.empty_like(ids_shuffle).scatter_(1, ids_shuffle, places)
    keep = scores.shape[1] - masked
    mask = (ids_restore >= keep).to(torch.float32)
    return MaskPlan(mask, ids_shuffle[:, :keep], ids_restore)


def uniform_mask(
    batch: int,
    num_patches: int,
    ratio: float,
    generator: Generator | None = None,
    device: torch.device | str | None = None,
) -> MaskPlan:
    """Mask patches uniformly at random, as MAE does.

    Raises:
        ValueError: If ``ratio`` leaves (0, 1) or hides none or all of the patches.
    """
    scores = torch.rand(batch, num_patches, generator=generator, device=device)
    return plan_from_order(scores, masked_count(num_patches, ratio))


def block_mask(
    batch: int,
    grid: tuple[int, int],
    ratio: float,
    unit: int,
    generator: Generator | None = None,
    device: torch.device | str | None = None,
) -> MaskPlan:
    """Mask square units of ``unit`` x ``unit`` patches uniformly at random, as SimMIM does.

    Args:
        batch: Number of frames.
        grid: Patches per column and per row, both divisible by ``unit``.
        ratio: Share of the units that is masked, in (0, 1).
        unit: Side of a unit in patches, >= 1.
        generator: Source of randomness, on ``device``.
        device: Where the plan lies.

    Raises:
        ValueError: If the grid is not divisible by ``unit`` or ``ratio`` hides none or all of the units.

    Source: SimMIM (arXiv 2111.09886), random masking with units of 32 px.
    """
    rows, columns = grid
    if rows % unit or columns % unit:
        raise ValueError(f'A grid of {rows} x {columns} patches cannot be cut into units of {unit} x {unit}.')
    units = (rows // unit, columns // unit)
    scores = torch.rand(batch, units[0] * units[1], generator=generator, device=device)
    return plan_of_units(scores, units, ratio, unit)


def plan_of_units(scores: Tensor, units: tuple[int, int], ratio: float, unit: int) -> MaskPlan:
    """Mask the units of highest score.

    Args:
        scores: Score of each unit, (B, rows x columns of units).
        units: Units per column and per row.
        ratio: Share of the units that is masked, in (0, 1).
        unit: Side of a unit in patches, >= 1.
    """
    masked = masked_count(units[0] * units[1], ratio)
    order = scores.argsort(dim=1).argsort(dim=1).reshape(-1, 1, *units).float()
    order = order.repeat_interleave(unit, 2).repeat_interleave(unit, 3).flatten(1)
    return plan_from_order(order, masked * unit * unit)


def guided_mask(guidance: Tensor, ratio: float, strength: float, generator: Generator | None = None) -> MaskPlan:
    """Draw masks that prefer vessel patches.

    Of the masked patches, int(strength x number masked) are drawn without replacement with a probability proportional
    to the guidance, never one of zero guidance; the others uniformly from what is left. The k largest values of
    log(guidance) + Gumbel noise are such a draw without replacement, for all rows at once.

    Args:
        guidance: Vessel evidence per patch, (B, L), >= 0; a row of zeros masks uniformly.
        ratio: Share of the L patches that is masked, in (0, 1).
        strength: Share of the masked patches that follows the guidance, beta in [0, 1].
        generator: Source of randomness, on the guidance's device.

    Returns:
        The plan: ``mask`` (B, L), 1 = masked; ``ids_keep`` (B, K); ``ids_restore`` (B, L).

    Raises:
        ValueError: If ``ratio`` or ``strength`` leaves its range, or ``guidance`` holds NaN or negative values (on a
            CUDA device the last is a device-side assertion, so that the host does not wait).

    Source: arXiv 2602.11536, section on anatomy-guided masking; Gumbel top-k: arXiv 1903.06059.
    """
    masked = masked_count(guidance.shape[1], ratio)
    return plan_from_order(guided_scores(guidance, masked, strength, generator), masked)


def guided_scores(guidance: Tensor, masked: int, strength: float, generator: Generator | None = None) -> Tensor:
    """Draw scores whose ``masked`` highest in a row are the patches, or units, that :func:`guided_mask` masks.

    Args:
        guidance: As in :func:`guided_mask`.
        masked: How many are masked in each row.
        strength: As in :func:`guided_mask`.
        generator: As in :func:`guided_mask`.

    Returns:
        (B, L), different from each other.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f'The guidance strength must lie in [0, 1], not {strength}.')
    _check_guidance(guidance)
    guided = int(strength * masked)
    uniform = torch.rand(guidance.shape, generator=generator, device=guidance.device)
    if guided == 0:
        return uniform
    # -log(-log u) with u kept off 0 and 1, where it is infinite.
    noise = torch.rand(guidance.shape, generator=generator, device=guidance.device)
    tiny = torch.finfo(noise.dtype).tiny
    gumbel = -(-noise.clamp_min(tiny).log()).clamp_min(tiny).log()
    keys = guidance.to(noise.dtype).log() + gumbel
    chosen = (keys >= keys.topk(guided, dim=1).values[:, -1:]) & (guidance > 0)
    return uniform + chosen.to(uniform.dtype) * 2


def pool_guidance(guidance: Tensor, patch_size: int) -> Tensor:
    """Sum of the guidance inside each patch.

    Args:
        guidance: (B, 1, H, W), >= 0, H and W divisible by ``patch_size``.
        patch_size: Side of a patch in pixels.

    Returns:
        (B, L), patches row by row. ``guided_mask`` needs it up to a factor only: f(g_i) is this over its row sum.

    Raises:
        ValueError: If H or W is not divisible by the patch size.
    """
    height, width = guidance.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(f'A guidance of {height} x {width} px is not divisible into patches of {patch_size} px.')
    return F.avg_pool2d(guidance.float(), patch_size).flatten(1) * patch_size**2


def weak_to_strong(progress: float, start: float, end: float) -> float:
    """Guidance strength at a share of the training: beta_0 + (e / E) (beta_E - beta_0).

    Args:
        progress: e / E in [0, 1]; the first epoch counts as e = 1.
        start: beta_0 in [0, 1].
        end: beta_E in [0, 1].

    Source: arXiv 2602.11536, weak-to-strong guidance.
    """
    return start + progress * (end - start)


def mask_to_pixels(mask: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Spread a patch mask (B, L) over the pixels: (B, 1, H, W)."""
    return mask.reshape(-1, 1, *grid).repeat_interleave(patch_size, 2).repeat_interleave(patch_size, 3)


def _check_guidance(guidance: Tensor) -> None:
    if guidance.ndim != 2:
        raise ValueError(f'Guidance per patch has the shape (B, L), not {tuple(guidance.shape)}.')
    sound = (guidance >= 0).all()  # False for NaN too.
    try:
        torch._assert_async(sound)  # Does not wait for a CUDA device.
    except NotImplementedError:  # A device without it, which is waited for.
        broken = not sound
    except RuntimeError:
        broken = True
    else:
        return
    if broken:
        raise ValueError('The guidance holds NaN or negative values.')


class Masking(nn.Module):
    """Base of all masking modules, registered by their own names.

    Args:
        ratio: Share of the patches (or units) that is masked, in (0, 1). Held-out frames are masked at this ratio.
        unit: Side, in patches, of the squares that are masked as a whole.

    Attributes:
        needs: What a request has to bring: ``('guidance',)`` for a masking that heeds it.

    Raises:
        ValueError: If ``ratio`` or ``unit`` leaves its range.
    """

    needs: tuple[str, ...] = ()
    ratio: float
    unit: int

    def __init__(self, ratio: float, unit: int = 1) -> None:
        super().__init__()
        name = type(self).__name__
        if not 0 < ratio < 1:
            raise ValueError(f'{name}: ratio must lie inside (0, 1), not {ratio}.')
        if unit < 1:
            raise ValueError(f'{name}: unit must be at least 1, not {unit}.')
        self.ratio, self.unit = ratio, unit

    def forward(self, request: MaskRequest) -> MaskPlan:
        """Draw the masks of a batch."""
        raise NotImplementedError


@MODELS.register_module()
class UniformMasking(Masking):
    """Uniform masking, by single patches (MAE) or by square units of them (SimMIM).

    Args:
        ratio: Share of the patches (or units) that is masked, in (0, 1).
        unit: Side of a unit in patches.
    """

    def __init__(self, ratio: float = 0.75, unit: int = 1) -> None:
        super().__init__(ratio, unit)

    def forward(self, request: MaskRequest) -> MaskPlan:
        """Draw the masks of a batch."""
        batch, generator, device = request.batch, request.generator, request.device
        if self.unit == 1:
            return uniform_mask(batch, request.num_patches, self.ratio, generator, device)
        return block_mask(batch, request.grid, self.ratio, self.unit, generator, device)


@MODELS.register_module()
class AnatomyMasking(Masking):
    """Guided masking with a strength that grows over the training, by single patches or by square units of them.

    Args:
        ratio: Share of the patches (or units) that is masked, gamma in (0, 1).
        start: Guidance strength beta_0 at the beginning, in [0, 1].
        end: Guidance strength beta_E in the last epoch, in [0, 1].
        unit: Side of a unit in patches; its guidance is the sum of its patches'.

    Source: arXiv 2602.11536, section on anatomy-guided masking; there with single patches.
    """

    needs = ('guidance',)

    def __init__(self, ratio: float = 0.5, start: float = 0.0, end: float = 0.5, unit: int = 1) -> None:
        super().__init__(ratio, unit)
        for name, value in (('start', start), ('end', end)):
            if not 0 <= value <= 1:
                raise ValueError(f'AnatomyMasking: {name} must lie in [0, 1], not {value}.')
        self.start, self.end = start, end

    def strength(self, progress: float | None) -> float:
        """Guidance strength at a share of the training.

        Raises:
            RuntimeError: If the share is unknown and the strength changes.
        """
        if self.start == self.end:
            return self.start
        if progress is None:
            raise RuntimeError(
                'No training runs here, so the strength of the guidance is unknown: set model.progress '
                '(1.0 is the last epoch).'
            )
        return weak_to_strong(progress, self.start, self.end)

    def forward(self, request: MaskRequest) -> MaskPlan:
        """Draw the masks of a batch.

        Raises:
            ValueError: If the request brings no guidance.
        """
        if request.guidance is None:
            raise ValueError('AnatomyMasking: the request brings no guidance.')
        strength = self.strength(request.progress)
        if self.unit == 1:
            return guided_mask(request.guidance, self.ratio, strength, request.generator)
        units = (request.grid[0] // self.unit, request.grid[1] // self.unit)
        guidance = pool_guidance(request.guidance.reshape(-1, 1, *request.grid), self.unit)
        scores = guided_scores(guidance, masked_count(units[0] * units[1], self.ratio), strength, request.generator)
        return plan_of_units(scores, units, self.ratio, self.unit)
