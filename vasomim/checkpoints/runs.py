"""The checkpoints of a run's folder, and the file that a path or name means."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vasomim.errors import CheckpointError, did_you_mean
from vasomim.files import read_regular
from vasomim.tensorfiles import damage

SHIPPED = Path(__file__).parents[1] / 'weights'
NUMBERED = re.compile(r'(?!best_).*_(\d+)\.pth')  # What a run writes as it goes: epoch_3.pth, iter_500.pth
LONGEST_NOTE = 4096  # Bytes of a path.


def last_checkpoint(work_dir: Path, tell: Callable[[str], Any] = print) -> Path | None:
    """The newest whole checkpoint of a run's folder, which may have been moved since; None where it holds none yet.

    Args:
        work_dir: The folder.
        tell: Takes a line for each newer checkpoint that is damaged or gone and so passed over.

    Raises:
        CheckpointError: If the folder's checkpoints are all gone or damaged.
    """
    noted = noted_checkpoint(work_dir)
    others = sorted(
        (path for path in work_dir.glob('*.pth') if NUMBERED.fullmatch(path.name)),
        key=lambda path: (path.stat().st_mtime, int(NUMBERED.fullmatch(path.name)[1])),  # type: ignore[index]
        reverse=True,
    )
    newest = []
    if noted is not None:
        beside = work_dir / noted.name
        # Of os.path, which takes a path that is too long for one that is not there.
        newest = [noted if os.path.isfile(noted) and not os.path.isfile(beside) else beside]
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


def noted_checkpoint(work_dir: Path) -> Path | None:
    """Return the path that mmengine noted as a run's last checkpoint; None where there is no note, or it is cut off.

    Raises:
        CheckpointError: If the note is no file of one line.
    """
    note = work_dir / 'last_checkpoint'
    if not note.is_file():
        return None
    text = read_regular(note, CheckpointError, 'Delete it.', LONGEST_NOTE).decode(errors='replace').strip()
    # A full disk cuts it off, and no path has a zero byte.
    return Path(text) if Path(text).name and '\0' not in text else None


def best_checkpoint(source: str | Path) -> Path:
    """Return a file, or of a run's folder the checkpoint that was best on its validation data, else its last.

    Raises:
        CheckpointError: If there is none.
    """
    best = sorted(Path(source).glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else find_weights(source)


def find_weights(source: str | Path) -> Path:
    """The file of a path, of a run's folder (its newest), or of the name of weights that come with the package.

    Raises:
        CheckpointError: If there is no such file or name.
    """
    path = Path(source)
    if path.is_dir():
        found = last_checkpoint(path)
        if found is None:
            raise CheckpointError(path, 'it is a folder without a checkpoint.', 'Name a file or the folder of a run.')
        return found
    if path.exists():  # A pipe or a device is refused where it is opened.
        return path
    shipped = {file.stem: file for file in SHIPPED.glob('*.safetensors')}
    if str(source) in shipped:
        return shipped[str(source)]
    if '://' in str(source):
        cure = 'Download it, and name the file.'
        raise CheckpointError(str(source), 'it is an address, and only files are read here.', cure)
    raise CheckpointError(
        str(source),
        f'there is no such checkpoint.{did_you_mean(str(source), shipped)}',
        f'Give a file, or the name of weights in the package ({", ".join(sorted(shipped))}).',
    )
