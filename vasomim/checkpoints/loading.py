"""Tensors into modules, with a report of what was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from vasomim.checkpoints.reading import read_checkpoint
from vasomim.errors import CheckpointError

LEAST = 0.95  # Share of an encoder's tensors without which it is not loaded or converted.
NEEDED = ('patch_embed.projection.weight', 'cls_token', 'pos_embed')  # Few, but without them the others are of no use.
SIZES = {192: 'tiny', 384: 'small', 768: 'base', 1024: 'large', 1280: 'huge'}  # Plain ViTs by their width.


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor in a load."""

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)  # Among the matched: positions that came from another grid.
    notes: list[str] = field(default_factory=list)  # What was changed, and what was assumed.

    @property
    def share(self) -> float:
        """Share of the model's tensors that the checkpoint gave, in [0, 1]."""
        return len(self.matched) / max(1, len(self.matched) + len(self.missing) + len(self.mismatched))

    def __str__(self) -> str:
        return (
            f'{self.source}: {len(self.matched)} tensors matched, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape, {len(self.resized)} resized'
        )


def load_weights(module: nn.Module, source: str | Path, least: float = 1.0) -> LoadReport:
    """Load a checkpoint into a module and say what was loaded.

    Args:
        module: Takes the tensors of its own names and shapes.
        source: As in :func:`read_checkpoint`.
        least: Share of the module's tensors that must match, in [0, 1].

    Raises:
        CheckpointError: If fewer match; the module is then unchanged.
    """
    return load_tensors(module, read_checkpoint(source).tensors, str(source), least)


def load_tensors(
    module: nn.Module,
    tensors: dict[str, Tensor],
    source: str,
    least: float = 1.0,
    resized: Sequence[str] = (),
    needed: Sequence[str] = (),
    notes: Sequence[str] = (),
    strict: bool = False,
) -> LoadReport:
    """Load tensors by our names into a module, as :func:`load_weights`.

    Args:
        module: Changed in place.
        tensors: By name.
        source: Where they come from.
        least: Share of the module's tensors that must match, in [0, 1].
        resized: Names of those that were resized.
        needed: Names of those that must match where the module has them, whatever their share.
        notes: What was changed or assumed, for the report.
        strict: Whether tensors that the module has no place for are an error.

    Raises:
        CheckpointError: If one of them does not, fewer match, or there are more; the module is then unchanged.
    """
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    report = LoadReport(
        source,
        matched=sorted(fitting),
        missing=sorted(own.keys() - tensors.keys()),
        unexpected=sorted(tensors.keys() - own.keys()),
        mismatched=sorted((own.keys() & tensors.keys()) - fitting.keys()),
        resized=sorted(fitting.keys() & set(resized)),
        notes=list(notes),
    )
    if report.share < least:
        raise CheckpointError(
            source,
            f'it belongs to another architecture: {_first_misfit(report, own, tensors)} ({report}).',
            _size_cure(module, own, tensors),
        )
    for name in (name for name in needed if name in own and name not in fitting):
        shape = f'of shape {list(tensors[name].shape)}' if name in tensors else 'missing'
        raise CheckpointError(
            source,
            f'its {name} is {shape}, where the model has {list(own[name].shape)}.',
            'Set model.backbone to what it was trained with, such as --cfg-options model.backbone.patch_size=14.',
        )
    if strict and report.unexpected:
        raise CheckpointError(
            source,
            f'it holds {report.unexpected[0]}, for which this {type(module).__name__} has no place ({report}).',
            'Set model.backbone to what it was trained with (arch, patch_size), or convert it with --drop.',
        )
    module.load_state_dict(fitting, strict=False)
    for line in (str(report), *(f'{source}: {note}' for note in report.notes)):
        print_log(line, logger='current')
    return report


def _size_cure(module: nn.Module, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    widths = [entry['cls_token'].shape[-1] for entry in (own, tensors) if 'cls_token' in entry]
    if len(widths) == 2 and widths[0] != widths[1] and widths[1] in SIZES:
        arch = f'model.backbone.arch={SIZES[widths[1]]}'
        return f'It is a ViT of another size: pass --cfg-options {arch}, or take another checkpoint.'
    return (
        f'Build a {type(module).__name__} of the size that the checkpoint was '
        'trained with (architecture, patch size, decoder), or take another checkpoint.'
    )


def _first_misfit(report: LoadReport, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    if report.mismatched:
        name = report.mismatched[0]
        return f'{name} is {tuple(tensors[name].shape)} there and {tuple(own[name].shape)} here'
    return f'{report.missing[0]} is missing'
