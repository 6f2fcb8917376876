"""Checkpoints: read safely, rename between families, load with a report of what was loaded."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vasomim import compat
from vasomim.errors import CheckpointError, did_you_mean

SHIPPED = Path(__file__).parent / 'weights'
NUMBERED = re.compile(r'(?!best_).*_(\d+)\.pth')  # What a run writes as it goes: epoch_3.pth, iter_500.pth

Rule = tuple[str, Callable[[re.Match[str]], str]]

# Names of other projects to ours, as regular expressions on whole tensor names; the first that matches counts.
FAMILIES: dict[str, list[Rule]] = {
    # The vessel segmentor as VasoMIM's authors name it.
    'unext': [
        (r'encoder(\d)\.(.+)', lambda m: f'encoder.{int(m[1]) - 1}.conv.{m[2]}'),
        (r'ebn(\d)\.(.+)', lambda m: f'encoder.{int(m[1]) - 1}.norm.{m[2]}'),
        (r'patch_embed(\d)\.proj\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.embed.{m[2]}'),
        (r'patch_embed(\d)\.norm\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.embed_norm.{m[2]}'),
        (r'norm(\d)\.(.+)', lambda m: f'tokens.{int(m[1]) - 3}.norm.{m[2]}'),
        (r'block(\d)\.0\.(.+)', lambda m: f'tokens.{int(m[1]) - 1}.block.{_shifted_mlp(m[2])}'),
        (r'dblock(\d)\.0\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.block.{_shifted_mlp(m[2])}'),
        (r'dnorm(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 3}.norm.{m[2]}'),
        (r'decoder(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.conv.{m[2]}'),
        (r'dbn(\d)\.(.+)', lambda m: f'decoder.{int(m[1]) - 1}.conv_norm.{m[2]}'),
        (r'final\.(.+)', lambda m: f'logit.{m[1]}'),
    ],
    # Masked autoencoders named as in timm, decoder beside the encoder: VasoMIM's authors and MAE.
    'mae': [
        (r'(cls_token|pos_embed)', lambda m: f'backbone.{m[1]}'),
        (r'patch_embed\.proj\.(.+)', lambda m: f'backbone.patch_embed.projection.{m[1]}'),
        (r'blocks\.(\d+)\.(.+)', lambda m: f'backbone.layers.{m[1]}.{_block(m[2])}'),
        (r'norm\.(.+)', lambda m: f'backbone.ln1.{m[1]}'),
        (r'decoder_blocks\.(\d+)\.(.+)', lambda m: f'neck.decoder_blocks.{m[1]}.{_block(m[2])}'),
        (r'decoder_norm\.(.+)', lambda m: f'neck.ln1.{m[1]}'),
        (r'(mask_token|decoder_pos_embed|decoder_embed\..+|decoder_pred\..+)', lambda m: f'neck.{m[1]}'),
    ],
}
# A tensor name by which a family is known.
MARKS = {'unext': 'dnorm3.weight', 'mae': 'blocks.0.attn.qkv.weight'}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by our names, how the file named them, and the config that they were trained with where it has one."""

    tensors: dict[str, Tensor]
    family: str
    config: str | None = None


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor in a load."""

    source: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the model's tensors that the checkpoint gave, in [0, 1]."""
        return len(self.matched) / max(1, len(self.matched) + len(self.missing) + len(self.mismatched))

    def __str__(self) -> str:
        return (
            f'{self.source}: {len(self.matched)} tensors matched, {len(self.missing)} missing, '
            f'{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape'
        )


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


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Read a checkpoint without running code from it, and rename known families to our names.

    Args:
        source: A .safetensors or PyTorch file, the folder of a run, or the name of weights that come with the package.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    path = find_weights(source)
    config: str | None = None
    try:
        if path.suffix == '.safetensors':
            with safe_open(path, framework='pt') as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                config = (file.metadata() or {}).get('config')
        else:
            compat.prepare()  # allows the classes in mmengine's own checkpoints, and no others
            content = torch.load(path, map_location='cpu', weights_only=True)
            tensors, config = _unwrap(path, content)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            path,
            f'it is damaged, or holds objects that could run code: {error}',
            'Do not load it unless you trust its source; convert it to .safetensors there.',
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(path, f'it cannot be read: {error}', 'Copy or download it again.') from error
    return Checkpoint(rename(tensors), detect_family(tensors), config)


def detect_family(tensors: dict[str, Tensor]) -> str:
    """The naming of a checkpoint: 'unext', 'mae' or 'vasomim' (ours)."""
    return next((family for family, mark in MARKS.items() if mark in tensors), 'vasomim')


def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors of a known family our names; a name that no rule knows stays."""
    rules = FAMILIES.get(detect_family(tensors), [])
    return {_rename(name, rules): tensor for name, tensor in tensors.items()}


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


def load_tensors(module: nn.Module, tensors: dict[str, Tensor], source: str, least: float = 1.0) -> LoadReport:
    """Load tensors by our names into a module; see :func:`load_weights`."""
    own = module.state_dict()
    fitting = {name: tensor for name, tensor in tensors.items() if name in own and own[name].shape == tensor.shape}
    report = LoadReport(
        source,
        matched=sorted(fitting),
        missing=sorted(own.keys() - tensors.keys()),
        unexpected=sorted(tensors.keys() - own.keys()),
        mismatched=sorted((own.keys() & tensors.keys()) - fitting.keys()),
    )
    if report.share < least:
        raise CheckpointError(
            source,
            f'it belongs to another architecture: {_first_misfit(report, own, tensors)} ({report}).',
            f'Build a {type(module).__name__} of the size that the checkpoint was '
            'trained with (architecture, patch size, decoder), or take another checkpoint.',
        )
    module.load_state_dict(fitting, strict=False)
    print_log(str(report), logger='current')
    return report


def load_model(source: str | Path, device: str | torch.device = 'cpu') -> nn.Module:
    """Build the model that a checkpoint's own config describes, and load its weights.

    Args:
        source: A checkpoint that carries its config, as mmengine's do.
        device: Where the model goes.

    Returns:
        The model, in evaluation mode; ``model.cfg`` is the whole config.

    Raises:
        CheckpointError: If the file carries no config, or its tensors do not fit the model in it.
    """
    from vasomim import models  # noqa: F401  registers what the config names
    from vasomim.registry import MODELS

    checkpoint = read_checkpoint(source)
    if checkpoint.config is None:
        raise CheckpointError(
            source, 'it carries no config, so its model is unknown.', 'Take a checkpoint that tools/train.py wrote.'
        )
    config = Config.fromstring(checkpoint.config, '.py')
    if 'segmentor' in config.model:
        config.model.segmentor.weights = None  # They are in the checkpoint; the file may be gone.
    model = MODELS.build(config.model)
    load_tensors(model, checkpoint.tensors, str(source))
    model.cfg = config
    return model.to(device).eval()


def save_weights(tensors: dict[str, Tensor], path: str | Path, config: str | None = None, **facts: str) -> None:
    """Write tensors as safetensors, with the config and further facts in the header."""
    metadata = {'format': 'pt', **facts, **({'config': config} if config else {})}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, metadata=metadata)


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a bare state dict or of one among other things, and mmengine's config."""
    if not isinstance(content, dict):
        raise CheckpointError(
            path, f'it holds a {type(content).__name__}, not tensors by name.', 'Take a checkpoint or a state dict.'
        )
    config = (content.get('meta') or {}).get('cfg') if isinstance(content.get('meta'), dict) else None
    for key in ('state_dict', 'model'):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(path, 'it holds no tensors.', 'Take a checkpoint or a state dict.')
    return tensors, config


def _rename(name: str, rules: list[Rule]) -> str:
    for pattern, build in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return build(match)
    return name


def _shifted_mlp(name: str) -> str:
    return re.sub(r'^mlp\.', '', name.replace('mlp.dwconv.dwconv', 'depthwise')).replace('norm2.', 'norm.')


def _block(name: str) -> str:
    for theirs, ours in (
        ('norm1.', 'ln1.'),
        ('norm2.', 'ln2.'),
        ('mlp.fc1.', 'ffn.layers.0.0.'),
        ('mlp.fc2.', 'ffn.layers.1.'),
    ):
        name = name.replace(theirs, ours)
    return name


def _first_misfit(report: LoadReport, own: dict[str, Tensor], tensors: dict[str, Tensor]) -> str:
    if report.mismatched:
        name = report.mismatched[0]
        return f'{name} is {tuple(tensors[name].shape)} there and {tuple(own[name].shape)} here'
    return f'{report.missing[0]} is missing'
