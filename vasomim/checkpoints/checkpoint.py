"""Checkpoints: read safely, rename between families, load with a report of what was loaded."""

from __future__ import annotations

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vasomim import compat
from vasomim.checkpoints.families import HEADS, POSITIONS, adopt, expected, resize_positions, translate
from vasomim.checkpoints.naming import detect_family
from vasomim.checkpoints.stored_config import encoder_section, look_up, parse_config
from vasomim.errors import CheckpointError, did_you_mean
from vasomim.files import in_one_step

SHIPPED = Path(__file__).parents[1] / 'weights'
NUMBERED = re.compile(r'(?!best_).*_(\d+)\.pth')  # What a run writes as it goes: epoch_3.pth, iter_500.pth
LEAST = 0.95  # Share of an encoder's tensors without which it is not loaded or converted.
NEEDED = ('patch_embed.projection.weight', 'cls_token', 'pos_embed')  # Few, but without them the others are of no use.
TASKS = {'mmseg': 'segmentation', 'mmdet': 'detection'}  # Downstream tasks by the scope of their configs.
SIZES = {192: 'tiny', 384: 'small', 768: 'base', 1024: 'large', 1280: 'huge'}  # Plain ViTs by their width.
WRAPPER = 'module.'  # Before each name where a model wrapped for several GPUs was saved.


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by our names, how the file named them, and the config that they were trained with where it has one.

    ``dropped`` are the tensors that its reader asked to go without, ``notes`` what was done to the others.
    """

    tensors: dict[str, Tensor]
    family: str
    config: str | None = None
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor in a load."""

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)  # Among the matched: positions that came from another grid.

    @property
    def share(self) -> float:
        """Share of the model's tensors that the checkpoint gave, in [0, 1]."""
        return len(self.matched) / max(1, len(self.matched) + len(self.missing) + len(self.mismatched))

    def __str__(self) -> str:
        return (
            f'{self.source}: {len(self.matched)} tensors matched, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape, {len(self.resized)} resized'
        )


@dataclass(frozen=True)
class Conversion:
    """What a conversion wrote, from which family, and what it did to the tensors beside renaming them."""

    report: LoadReport
    family: str
    written: int
    with_config: bool
    notes: tuple[str, ...] = ()


def last_checkpoint(work_dir: Path, tell: Callable[[str], Any] = print) -> Path | None:
    """The newest whole checkpoint of a run's folder, which may have been moved since; None where it holds none yet.

    Args:
        work_dir: The folder.
        tell: Takes a line for each newer checkpoint that is damaged or gone and so passed over.

    Raises:
        CheckpointError: If the folder's checkpoints are all gone or damaged.
    """
    note = work_dir / 'last_checkpoint'
    noted = Path(note.read_text(encoding='utf-8').strip()) if note.is_file() else None
    others = sorted(
        (path for path in work_dir.glob('*.pth') if NUMBERED.fullmatch(path.name)),
        key=lambda path: (path.stat().st_mtime, int(NUMBERED.fullmatch(path.name)[1])),  # type: ignore[index]
        reverse=True,
    )
    newest = []
    if noted is not None and noted.name:  # A note without a name was cut off by a full disk.
        beside = work_dir / noted.name
        newest = [noted if noted.is_file() and not beside.is_file() else beside]
    problems: list[str] = []
    for path in [*newest, *(path for path in others if path not in newest)]:
        problem = damage(path)
        if problem is None:
            for line in problems:
                tell(f'{line}; going back to {path.name}')
            return path
        problems.append(f'{path} {problem}')
    if problems:
        raise CheckpointError(
            work_dir,
            f'none of its checkpoints can be used: {"; ".join(problems)}.',
            'Name another checkpoint, or start again with --overwrite.',
        )
    return None


def best_checkpoint(source: str | Path) -> Path:
    """Return a file, or of a run's folder the checkpoint that was best on its validation data, else its last.

    Raises:
        CheckpointError: If there is none.
    """
    best = sorted(Path(source).glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else find_weights(source)


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint file without unpickling it; None where it is whole.

    A file of ``torch.save`` is an archive with a directory at its end and a checksum for each tensor: the first tells
    one that was cut off, the second one whose bytes have changed. What is no such archive is left to its reader.
    """
    try:
        with open(path, 'rb') as file:
            start = file.read(2)
        if start == b'PK':
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            return f'is damaged in {broken}' if broken else None
    except FileNotFoundError:
        return 'is not there'
    except (zipfile.BadZipFile, EOFError):
        return 'is cut off'
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    return None if start else 'is empty'


def find_weights(source: str | Path) -> Path:
    """The file of a path, of a run's folder (its newest), or of the name of weights that come with the package.

    Raises:
        CheckpointError: If there is no such file or name.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        found = last_checkpoint(path)
        if found is None:
            raise CheckpointError(path, 'it is a folder without a checkpoint.', 'Name a file or the folder of a run.')
        return found
    shipped = {file.stem: file for file in SHIPPED.glob('*.safetensors')}
    if str(source) in shipped:
        return shipped[str(source)]
    raise CheckpointError(
        str(source),
        f'there is no such checkpoint.{did_you_mean(str(source), shipped)}',
        f'Give a file, or the name of weights in the package ({", ".join(sorted(shipped))}).',
    )


def read_checkpoint(
    source: str | Path, drop: Sequence[str] = (), grid: tuple[int, int] | None = None, rotary: bool = False
) -> Checkpoint:
    """Read a checkpoint without running code from it, and turn the tensors of known families into ours.

    Args:
        source: A .safetensors or PyTorch file, the folder of a run, or the name of weights that come with the package.
        drop: Tensors to go without; see :func:`vasomim.checkpoints.families.adopt`.
        grid: Patches per column and row, where the number of position embeddings does not tell.
        rotary: Whether it is for an encoder with rotary positions.

    Raises:
        CheckpointError: If there is no such file, it is damaged, it holds more than tensors and plain values, or what
            a plain ViT cannot hold.
    """
    path = find_weights(source)
    config: str | None = None
    try:
        if path.suffix == '.safetensors':
            with safe_open(path, framework='pt') as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                config = (file.metadata() or {}).get('config')
        else:
            tensors, config = _unwrap(path, _load(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            path,
            f'it is damaged, or holds objects that could run code: {error}',
            'Do not load it unless you trust its source; convert it to .safetensors there.',
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(path, f'it cannot be read: {error}', 'Copy or download it again.') from error
    family = detect_family(tensors)
    adopted = adopt(tensors, family, path, drop, grid, rotary)
    return Checkpoint(adopted.tensors, family, config, adopted.dropped, adopted.notes)


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the tensors of a known family into ours; a name that is not known stays."""
    return adopt(tensors, detect_family(tensors), 'tensors').tensors


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
) -> LoadReport:
    """Load tensors by our names into a module, as :func:`load_weights`.

    Args:
        module: Changed in place.
        tensors: By name.
        source: Where they come from.
        least: Share of the module's tensors that must match, in [0, 1].
        resized: Names of those that were resized.
        needed: Names of those that must match where the module has them, whatever their share.

    Raises:
        CheckpointError: If one of them does not, or fewer match; the module is then unchanged.
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
    module.load_state_dict(fitting, strict=False)
    print_log(str(report), logger='current')
    return report


def source_grid(checkpoint: Checkpoint, positions: Tensor, source: str | Path) -> tuple[int, int]:
    """Return the grid of a checkpoint's position embeddings, class token first: from its config, else a square.

    Raises:
        CheckpointError: If it is neither, or the config is no list of plain values.
    """
    patches = positions.shape[1] - 1
    if backbone := backbone_config(checkpoint, source):
        size, patch = backbone.get('img_size', 224), backbone.get('patch_size') or 16
        height, width = (size, size) if isinstance(size, int) else size
        if (height // patch) * (width // patch) == patches:
            return height // patch, width // patch
    side = math.isqrt(patches)
    if side * side != patches:
        raise CheckpointError(
            source,
            f'its {patches} position embeddings form no square, and it carries no config that says their grid.',
            'Say it with --grid of `vasomim convert`, or take the checkpoint that the training wrote with its config.',
        )
    return side, side


def backbone_config(checkpoint: Checkpoint, source: str | Path) -> dict[str, Any]:
    """Return the encoder's part of a checkpoint's config; empty where it has none.

    Raises:
        CheckpointError: If the config is no list of plain values, or a size in it makes no sense.
    """
    if checkpoint.config is None:
        return {}
    return encoder_section(parse_config(checkpoint.config, source), source)


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = 'vasomim',
    drop: Sequence[str] = (),
    grid: tuple[int, int] | None = None,
    resize: tuple[int, int] | None = None,
) -> Conversion:
    """Write a checkpoint under the names of another project; its family is detected.

    Args:
        source: As in :func:`read_checkpoint`; of a run's folder the best checkpoint, else the last.
        target: The file to write: .safetensors, or .pth for what cannot read that.
        to: 'vasomim', 'mmpretrain', 'timm', 'mae' or 'hf'.
        drop: Tensors to go without; see :func:`vasomim.checkpoints.families.adopt`.
        grid: Patches per column and row of the position embeddings; None for what the config says, else a square.
        resize: Patches per column and row that the position embeddings are resized to; None leaves them.

    Returns:
        What became of the tensors.

    Raises:
        CheckpointError: If the source cannot be read, the target has another suffix, the encoder lacks more than one in
            twenty of its tensors, or holds what the target has no place for.
    """
    target = Path(target)
    if target.suffix not in ('.safetensors', '.pth', '.pt'):
        cure = 'Name it with .safetensors, or with .pth for programs that read nothing else.'
        raise CheckpointError(target, f'there is no format {target.suffix or "without a suffix"} to write.', cure)
    path = best_checkpoint(source)
    checkpoint = read_checkpoint(path, drop, grid)
    tensors, left = dict(checkpoint.tensors), list(checkpoint.dropped)
    if checkpoint.family not in ('vasomim', 'unext'):
        others = [name for name in tensors if not name.startswith(('backbone.', 'neck.'))]
        for name in others:
            if not HEADS.fullmatch(name):
                cure = f'Convert it with --drop {name} to go without it.'
                raise CheckpointError(path, f'{name} has no place in an encoder or decoder of ours.', cure)
            tensors.pop(name)
        left += others
    resized = _resize_positions(tensors, checkpoint, path, grid, resize) if resize else []
    theirs, unnamed = translate(tensors, to, path)
    wanted = expected(tensors) if to != 'vasomim' or checkpoint.family != 'vasomim' else []
    if to != 'vasomim' and not wanted:
        cure = 'Convert it without --to, or take a checkpoint of an encoder.'
        raise CheckpointError(path, f'it holds no plain ViT, for which {to} would have names.', cure)
    report = LoadReport(
        str(path),
        matched=sorted(tensors.keys() - set(unnamed)),
        missing=sorted(set(wanted) - tensors.keys()),
        unexpected=sorted([*left, *unnamed]),
        resized=resized,
    )
    lacking = [name for name in report.missing if name.removeprefix('backbone.') in NEEDED]
    if lacking or len(report.missing) > (1 - LEAST) * len(wanted):
        cure, name = 'Take a checkpoint with the whole encoder.', [*lacking, *report.missing][0]
        raise CheckpointError(path, f'its encoder is not whole: {name} is missing ({report}).', cure)
    config = None if resized or to not in ('vasomim', 'mmpretrain') else checkpoint.config
    if target.suffix == '.safetensors':
        save_weights(theirs, target, config)
    else:
        key = {'mae': 'model', 'vasomim': 'state_dict', 'mmpretrain': 'state_dict'}.get(to)
        meta = {'meta': {'cfg': config}} if config else {}
        with in_one_step(target) as unfinished:
            torch.save({key: theirs, **meta} if key else theirs, unfinished)
    return Conversion(report, checkpoint.family, len(theirs), config is not None, checkpoint.notes)


def load_model(source: str | Path, device: str | torch.device = 'cpu', trust_config: bool = False) -> nn.Module:
    """Build the pre-trained model, or the vessel segmentor, that a checkpoint's own config describes, and load it.

    Args:
        source: A checkpoint that carries its config, as mmengine's do.
        device: Where the model goes.
        trust_config: Build whatever the config says, be it code; for files whose source you trust.

    Returns:
        The model, in evaluation mode; ``model.cfg`` is the whole config.

    Raises:
        CheckpointError: If the file carries no config or that of a downstream task, the config holds what
            :mod:`vasomim.checkpoints.allow_list` does not allow, or the tensors do not fit the model in it.
    """
    from vasomim import models  # noqa: F401  registers what the config names
    from vasomim.checkpoints.stored_check import buildable
    from vasomim.checkpoints.stored_model import build_model

    checkpoint = read_checkpoint(source)
    if checkpoint.config is None:
        raise CheckpointError(
            source, 'it carries no config, so its model is unknown.', 'Take a checkpoint that `vasomim train` wrote.'
        )
    config = parse_config(checkpoint.config, source)
    scope = look_up(config, 'default_scope', str, source, 'mmpretrain')
    if scope in TASKS:
        cure = 'Take a checkpoint of a pre-training. `vasomim test` and `vasomim predict` take this one.'
        raise CheckpointError(source, f'it is of a {TASKS[scope]}, which reconstructs nothing.', cure)
    section = look_up(config, 'model', dict, source)
    if not section:
        raise CheckpointError(source, 'its config describes no model.', 'Take a checkpoint that a training wrote.')
    section = buildable(section, 'model', config, 'mmpretrain', source, trust_config)
    model = build_model(section, 'mmpretrain', checkpoint.tensors, source)
    load_tensors(model, checkpoint.tensors, str(source))
    model.cfg = config
    return model.to(device).eval()


def save_weights(tensors: dict[str, Tensor], path: str | Path, config: str | None = None, **facts: str) -> None:
    """Write tensors as safetensors, with the config and further facts in the header."""
    metadata = {'format': 'pt', **facts, **({'config': config} if config else {})}
    with in_one_step(Path(path)) as unfinished:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(stored, unfinished, metadata=metadata)


def _load(path: Path) -> Any:
    compat.prepare()  # allows the classes in mmengine's own checkpoints, and no others
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError):
        raise  # These tell what is wrong.
    except Exception as error:  # What is no checkpoint, such as the page of a server, fails anyhow.
        raise CheckpointError(path, 'it is no checkpoint of PyTorch.', 'Copy or download it again.') from error


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a bare state dict or of one among other things, and mmengine's config."""
    if not isinstance(content, dict):
        raise CheckpointError(
            path, f'it holds a {type(content).__name__}, not tensors by name.', 'Take a checkpoint or a state dict.'
        )
    meta = content.get('meta')
    config = meta.get('cfg') if isinstance(meta, dict) else None
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(path, 'it holds no tensors.', 'Take a checkpoint or a state dict.')
    if all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}
    return tensors, config if isinstance(config, str) else None


def _resize_positions(
    tensors: dict[str, Tensor],
    checkpoint: Checkpoint,
    path: Path,
    grid: tuple[int, int] | None,
    resize: tuple[int, int],
) -> list[str]:
    resized = []
    for name in (POSITIONS, 'neck.decoder_pos_embed'):
        if name in tensors:
            from_grid = grid or source_grid(checkpoint, tensors[name], path)
            if tensors[name].shape[1] != 1 + from_grid[0] * from_grid[1]:
                what = f'{name} has {tensors[name].shape[1] - 1} positions, not {from_grid[0]} x {from_grid[1]}.'
                raise CheckpointError(path, what, 'Give the grid of the checkpoint as --grid ROWS COLUMNS.')
            tensors[name] = resize_positions(tensors[name], from_grid, resize)
            resized.append(name)
    return resized


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
