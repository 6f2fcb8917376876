"""Train whatever an OpenMMLab config describes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from vasomim.apis.arguments import check_seed
from vasomim.apis.config_parts import DOWNSTREAM, check_head, use_data, use_encoder
from vasomim.apis.configs import Options, load_config
from vasomim.checkpoints.runs import last_checkpoint, noted_checkpoint
from vasomim.engine.precision import mixed_precision
from vasomim.engine.refusals import blamed_on
from vasomim.engine.sizes import check_sizes
from vasomim.engine.workers import explained
from vasomim.errors import CheckpointError, ConfigError, did_you_mean
from vasomim.files import LOCK, locked, require_plain_name
from vasomim.registry import RUNNERS

FROM_WORK_DIR = 'auto'
STARTED_BY = {  # Launcher: the variable that it sets, and how it is called.
    'pytorch': ('RANK', 'torchrun --nproc-per-node 8 -m vasomim train CONFIG --launcher pytorch'),
    'slurm': ('SLURM_PROCID', 'srun --ntasks-per-node=8 --gpus-per-node=8 vasomim train CONFIG --launcher slurm'),
}
TIMES = ('time', 'data_time')  # Logged beside the figures of a validation.


@dataclass(frozen=True)
class Trained:
    """What a training left.

    Attributes:
        work_dir: Its folder: logs, figures, checkpoints.
        checkpoint: The last one written; None where the config writes none.
        best: The one that was best on the validation data; None where the config keeps none.
        metrics: Figures of the last validation by name; empty where none took place.
    """

    work_dir: Path
    checkpoint: Path | None
    best: Path | None
    metrics: dict[str, float]


def train(
    config: str | Path,
    *,
    data: str | Path | None = None,
    init: str | Path | None = None,
    work_dir: str | Path | None = None,
    options: Options = None,
    seed: int | None = None,
    amp: bool = False,
    resume: str | Path | None = None,
    overwrite: bool = False,
    launcher: str = 'none',
    tell: Callable[[str], Any] = print,
) -> Trained:
    """Train: pre-training, the vessel segmentor, or a downstream task.

    A work directory with checkpoints is never written to unless ``resume`` or ``overwrite`` says how.

    Args:
        config: A file, or 'vasomim::FOLDER/NAME.py' for one that came with the package.
        data: Folder to read instead of that of the config. Pre-training: XA-170K, a packed set, or any folder of
            images; downstream tasks: a prepared folder.
        init: Pre-trained encoder to start from: a checkpoint, the folder of a run, or the name of weights in the
            package; None starts from scratch.
        work_dir: Where logs, figures and checkpoints go; None for the config's, else ``work_dirs/NAME``.
        options: Changes of the config: a dict of dotted keys and values, or texts KEY=VALUE.
        seed: Of all random numbers, 0 to 2**32 - 1; None for the config's.
        amp: Mixed precision: bfloat16, or float16 with loss scaling on GPUs without it.
        resume: A checkpoint to continue from, a folder for its last whole one, or 'auto' for that of the work
            directory, if it holds one.
        overwrite: Delete the checkpoints of an earlier run in the work directory.
        launcher: How the processes were started: 'none' (one process), 'pytorch' (torchrun) or 'slurm'.
        tell: Takes a line on what is done before the training starts; it is called by the first process only.

    Raises:
        ConfigError: If the config or an argument is wrong, or the work directory holds an earlier run.
        CheckpointError: If the checkpoint to start or to resume from does not exist or cannot be used.
        DatasetError: If the data are missing or damaged.
        StorageError: If another training runs in the work directory, or one cannot write there.
        TrainingError: If the training cannot go on, as with a loss that is not finite.
    """
    started_by(launcher)
    say = tell if process_number() == 0 else silent
    cfg = load_config(config, options)
    if data is not None:
        use_data(cfg, data)
    if init is not None:
        use_encoder(cfg, init)
    cfg.launcher = launcher
    cfg.work_dir = str(work_dir or cfg.get('work_dir') or default_work_dir(cfg))
    if seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=check_seed(seed))
    if amp:
        cfg.optim_wrapper, precision = mixed_precision(cfg.optim_wrapper)
        say(f'mixed precision: {precision}')
    check_sizes(cfg)
    check_head(cfg)
    require_plain_name(cfg.work_dir)
    if overwrite and resume is not None:
        raise ConfigError('--overwrite', 'it contradicts --resume.', 'Pass one of the two.')
    with alone(Path(cfg.work_dir), launcher):
        wanted = resume or (FROM_WORK_DIR if cfg.get('resume') and not cfg.get('load_from') else None)
        if wanted is not None:
            checkpoint = checkpoint_to_resume(wanted, Path(cfg.work_dir), say)
            cfg.resume, cfg.load_from = checkpoint is not None, checkpoint or cfg.get('load_from')
        return run(cfg, earlier_run(cfg, overwrite))


def run(cfg: Config, earlier: Sequence[Path]) -> Trained:
    """Train as a config says.

    Args:
        cfg: With all that the arguments say.
        earlier: Files of an earlier run to delete, once the new one is built.
    """
    # A runner sets the scope for the whole process: what is looked up afterwards does not depend on this training.
    with scope_of(cfg), explained('train_dataloader'), blamed_on(cfg):
        runner = build_runner(cfg)
        for path in earlier if runner.rank == 0 else []:
            path.unlink()
        runner.train()
    work_dir = Path(cfg.work_dir)
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    metrics = {
        name.removeprefix('val/'): float(history.current())
        for name, history in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and name.removeprefix('val/') not in TIMES
    }
    noted = noted_checkpoint(work_dir)
    if noted is not None and (work_dir / noted.name).is_file():
        noted = work_dir / noted.name  # As the folder was named, where the note has its absolute path.
    return Trained(work_dir, noted, best[-1] if best else None, metrics)


def scope_of(cfg: Config) -> Any:
    """Return a context within which names are looked up in a config's library, and after which as before."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine')


@contextmanager
def alone(work_dir: Path, launcher: str) -> Iterator[None]:
    """Hold the work directory for the run's life; of several processes, the one that writes does so for all.

    Raises:
        StorageError: If another training runs there, or one cannot write there.
    """
    if launcher != 'none' and process_number():
        yield
        return
    cure = 'Wait until it has ended, or pass another --work-dir.'
    with locked(work_dir / LOCK, 'another training runs in this folder.', cure, keep=False):
        yield


def default_work_dir(cfg: Config) -> str:
    """Return a folder named like the config; downstream configs share their names, so their data set comes first."""
    path = Path(cfg.filename)
    name = f'{path.parent.name}_{path.stem}' if cfg.get('default_scope') in DOWNSTREAM else path.stem
    return str(Path('work_dirs') / name)


def started_by(launcher: str) -> None:
    """Check that the launcher that is named has started this process.

    Raises:
        ConfigError: If there is no such launcher, or its environment variables are missing.
    """
    if launcher == 'none':
        return
    if launcher not in STARTED_BY:
        hint = did_you_mean(launcher, STARTED_BY)
        raise ConfigError('--launcher', f"there is no '{launcher}'.{hint}", f'Take none, {", ".join(STARTED_BY)}.')
    mark, command = STARTED_BY[launcher]
    if mark not in os.environ:
        what = f'{mark} is not set: nothing has started several processes.'
        raise ConfigError(f'--launcher {launcher}', what, f'Start it by: {command}')


def checkpoint_to_resume(wanted: str | Path, work_dir: Path, say: Callable[[str], Any]) -> str | None:
    """Return the checkpoint to continue from; None where the work directory holds none yet.

    Args:
        wanted: A file, a run's folder for its last whole checkpoint, or 'auto' for that of the work directory.
        work_dir: The run's folder. It may have been moved since the checkpoint was written.
        say: Takes a line on what was found.

    Raises:
        CheckpointError: If the checkpoint does not exist, or all of the folder are damaged.
    """
    source = work_dir if wanted == FROM_WORK_DIR else Path(wanted)
    in_folder = wanted == FROM_WORK_DIR or source.is_dir()
    checkpoint = last_checkpoint(source, tell=say) if in_folder else source
    if checkpoint is None and wanted == FROM_WORK_DIR:
        say(f'no checkpoint in {work_dir} yet: starting from the beginning')
        return None
    if checkpoint is None or not checkpoint.is_file():
        raise CheckpointError(
            source,
            'there is no such checkpoint.' if checkpoint else 'this directory holds no checkpoint.',
            'Pass --resume without a path to continue from the work directory, or leave it out.',
        )
    say(f'resuming from {checkpoint}')
    return str(checkpoint)


def earlier_run(cfg: Config, overwrite: bool) -> list[Path]:
    """Return what ``overwrite`` deletes before a new training: the checkpoints that its work directory holds already.

    Raises:
        ConfigError: If there are some, and neither is this training their continuation nor may it delete them.
    """
    work_dir = Path(cfg.work_dir)
    if cfg.get('resume') and cfg.get('load_from') and Path(cfg.load_from).resolve().parent == work_dir.resolve():
        return []
    found = [path for path in work_dir.glob('*.pth') if path.name.startswith('best_') or path.stem[-1].isdigit()]
    if found and not overwrite:
        newest = max(found, key=lambda path: path.stat().st_mtime)
        noun = 'checkpoint' if len(found) == 1 else 'checkpoints'
        raise ConfigError(
            f'--work-dir {work_dir}',
            f'it holds {len(found)} {noun} of an earlier run, newest {newest.name}, which this one would overwrite.',
            'Pass --resume to continue that run, another --work-dir to keep it, or --overwrite to delete these.',
        )
    notes = [work_dir / name for name in ('last_checkpoint', 'last_validation')]
    return [*found, *(note for note in notes if found and note.is_file())]


def build_runner(cfg: Config) -> Any:
    """Build the runner that the config names with ``runner_type``, mmengine's without one.

    Raises:
        ConfigError: If there is no runner of that name.
    """
    name = cfg.get('runner_type')
    if not name:
        return Runner.from_cfg(cfg)
    runner = RUNNERS.get(name)
    if runner is None:
        raise ConfigError(
            cfg.filename,
            f"runner_type: '{name}' is not registered.{did_you_mean(name, RUNNERS.module_dict)}",
            "Leave it out for mmengine's own runner.",
        )
    return runner.from_cfg(cfg)


def process_number() -> int:
    """Return the number of this process among those that a launcher has started."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')))


def silent(line: str) -> None:
    """Take a line of another process than the first, which says the same."""
