"""``vasomim train``: train whatever an OpenMMLab config describes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasomim.cli.arguments import seed
from vasomim.errors import CheckpointError, ConfigError, did_you_mean
from vasomim.files import LOCK, locked, require_plain_name
from vasomim.frames.layout import ANATOMY_SUFFIX, existing_folder, maps_beside, merged_sources

if TYPE_CHECKING:
    from mmengine.config import Config

SUMMARY = 'Train from a config: pre-training, the vessel segmentor, or a downstream task.'

PACKAGE = 'vasomim::'
FROM_WORK_DIR = 'auto'
DOWNSTREAM = ('mmseg', 'mmdet')  # Scopes of the configs that fine-tune an encoder.
# Readers whose classes are those of the data: what they need, what classifies it, and how many more classes that has.
OWN_CLASSES = {'FolderSegmentation': ('masks', 'decode_head', 1), 'FolderDetection': ('boxes', 'roi_head.bbox_head', 0)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.usage = f'{parser.prog} CONFIG [options]'
    parser.add_argument(
        'config',
        metavar='CONFIG',
        help='config file, or vasomim::FOLDER/NAME.py for one that came with the package; it comes first, as --resume '
        'and --cfg-options would take it for their value',
    )
    parser.add_argument(
        '--data',
        metavar='FOLDER',
        help='data to read instead of that of the config. Pre-training: XA-170K as published, with your own sources '
        'beside its, what `vasomim pack` wrote, or any folder of images (anatomy maps are read from '
        f'FOLDER{ANATOMY_SUFFIX} where that exists, else extracted while loading); '
        'downstream tasks: a folder that `vasomim prepare` wrote (your own labels: vasomim::downstream/folder/...)',
    )
    parser.add_argument(
        '--init',
        metavar='CHECKPOINT',
        help='pre-trained encoder to start a downstream task or a further pre-training from, whatever method it comes '
        'from (default: scratch)',
    )
    parser.add_argument('--work-dir', help='where logs, figures and checkpoints go (default: work_dirs/NAME)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=FROM_WORK_DIR,
        metavar='CHECKPOINT',
        help='continue from a checkpoint, or the last whole one of a directory; without a value, of the work directory',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete the checkpoints of an earlier run in the work directory; without it they are an error',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: bfloat16, or float16 with loss scaling on GPUs without it'
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm'),
        default='none',
        help='how the processes were started: torchrun is pytorch (default: none, one process)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='change the config: model.masking.ratio=0.6 train_cfg.max_epochs=100',
    )
    parser.add_argument('--seed', type=seed, help='seed of all random numbers (default: that of the config)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher, not by hand')


def run(options: argparse.Namespace) -> int:
    """Train.

    Raises:
        ConfigError: If the config or an option is wrong.
        CheckpointError: If the checkpoint to resume from does not exist.
        StorageError: If another training runs in the work directory, or one cannot write there.

    A work directory with checkpoints is never written to unless ``--resume`` or ``--overwrite`` says how.
    """
    from vasomim import compat

    compat.prepare()
    started_by(options.launcher)
    os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    cfg = load_config(options.config, options.cfg_options)
    if options.data is not None:
        use_data(cfg, options.data)
    if options.init is not None:
        use_encoder(cfg, options.init)
    cfg.launcher = options.launcher
    cfg.work_dir = str(options.work_dir or cfg.get('work_dir') or default_work_dir(cfg))
    if options.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=options.seed)
    if options.amp:
        from vasomim.engine.precision import mixed_precision

        cfg.optim_wrapper, precision = mixed_precision(cfg.optim_wrapper)
        say(f'mixed precision: {precision}')
    from vasomim.engine.sizes import check_sizes

    check_sizes(cfg)
    check_head(cfg)
    require_plain_name(cfg.work_dir)
    with alone(Path(cfg.work_dir), options.launcher):
        resume = options.resume or (FROM_WORK_DIR if cfg.get('resume') and not cfg.get('load_from') else None)
        if resume is not None:
            checkpoint = checkpoint_to_resume(resume, Path(cfg.work_dir))
            cfg.resume, cfg.load_from = checkpoint is not None, checkpoint or cfg.get('load_from')
        train(cfg, earlier_run(cfg, options))
    return 0


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


def train(cfg: Config, earlier: Sequence[Path]) -> None:
    """Train.

    Args:
        cfg: With everything that the options say.
        earlier: Files of an earlier run to delete, once the new one is built.
    """
    from vasomim.engine.refusals import blamed_on
    from vasomim.engine.workers import explained

    with explained('train_dataloader'), blamed_on(cfg):
        runner = build_runner(cfg)
        for path in earlier if runner.rank == 0 else []:
            path.unlink()
        runner.train()


def default_work_dir(cfg: Config) -> str:
    """Return a folder named like the config; downstream configs share their names, so their data set comes first."""
    path = Path(cfg.filename)
    name = f'{path.parent.name}_{path.stem}' if cfg.get('default_scope') in DOWNSTREAM else path.stem
    return str(Path('work_dirs') / name)


def started_by(launcher: str) -> None:
    """Check that the launcher that is named has started this process.

    Raises:
        ConfigError: If its environment variables are missing.
    """
    if launcher == 'none':
        return
    mark, command = {
        'pytorch': ('RANK', 'torchrun --nproc-per-node 8 -m vasomim train CONFIG --launcher pytorch'),
        'slurm': ('SLURM_PROCID', 'srun --ntasks-per-node=8 --gpus-per-node=8 vasomim train CONFIG --launcher slurm'),
    }[launcher]
    if mark not in os.environ:
        what = f'{mark} is not set: nothing has started several processes.'
        raise ConfigError(f'--launcher {launcher}', what, f'Start it by: {command}')


def load_config(name: str, options: Sequence[str] = ()) -> Config:
    """Read a config, merge options into it and check both.

    Args:
        name: A file, or 'vasomim::FOLDER/NAME.py'.
        options: KEY=VALUE, each with a dotted key.

    Raises:
        ConfigError: If the file does not exist or is not valid, a key or an option is misspelled, or a value is out of
            its range.
    """
    from vasomim.engine.options import merge_options
    from vasomim.engine.reading import read_config
    from vasomim.engine.strict import check_config
    from vasomim.engine.values import check_values

    cfg = read_config(config_path(name))
    forget_scope(cfg._cfg_dict)
    merge_options(cfg, parse_options(options))
    check_config(cfg)
    check_values(cfg)
    return cfg


def forget_scope(section: Any) -> None:
    """Forget what mmengine notes in all sections of an inherited `vasomim::` config: that this package builds them.

    A downstream config is built by mmseg or mmdet, and reads like one that is inherited by its path.

    Args:
        section: A config, a section of it or a list of sections; changed in place.
    """
    if isinstance(section, dict):
        if section.get('_scope_') == PACKAGE.rstrip(':'):
            section.pop('_scope_')
        section = list(section.values())
    if isinstance(section, (list, tuple)):
        for part in section:
            forget_scope(part)


def config_path(name: str) -> Path:
    """Return the file of a config.

    Raises:
        ConfigError: If there is none; names the config that resembles the name most.
    """
    folder = shipped_configs()
    path = folder / name[len(PACKAGE) :] if name.startswith(PACKAGE) else Path(name)
    if path.is_file():
        return path
    shipped = sorted(str(file.relative_to(folder)) for file in folder.rglob('*.py') if '_base_' not in file.parts)
    wanted = name[len(PACKAGE) :] if name.startswith(PACKAGE) else name.removeprefix('configs/')
    by_stem = {Path(file).stem: file for file in shipped}
    hint = did_you_mean(wanted, shipped) or did_you_mean(Path(name).stem, by_stem)
    listed = '\n    '.join(f'{PACKAGE}{file}' for file in shipped)
    raise ConfigError(
        name,
        f'there is no such config.{hint}',
        f'Pass the path of a file, or one of these:\n    {listed}' if shipped else 'Pass the path of a file.',
    )


def shipped_configs() -> Path:
    """Return the folder of the configs that come with the package, in a checkout or as installed."""
    import vasomim

    package = Path(vasomim.__file__).parent
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def parse_options(options: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE as OpenMMLab's tools do: numbers, booleans, None, lists in brackets.

    Raises:
        ConfigError: If an option has no '=' or unbalanced brackets.
    """
    from mmengine.config import DictAction

    namespace = argparse.Namespace()
    for option in options:
        try:
            DictAction([], 'values')(argparse.ArgumentParser(), namespace, [option])
        except (ValueError, AssertionError) as error:
            raise ConfigError(
                f'--cfg-options {option}',
                'it is not of the form KEY=VALUE.',
                'Write the dotted key, =, and the value: model.masking.ratio=0.6',
            ) from error
    return dict(getattr(namespace, 'values', {}))


def use_data(cfg: Config, folder: str) -> None:
    """Let a config read its data, trained and held out, from another folder; its transforms stay.

    Args:
        cfg: The config, changed in place.
        folder: Pre-training: XA-170K's root, known by its sources' folders, a packed set, or any folder of images.
            Downstream tasks: a prepared folder.

    Raises:
        DatasetError: If the folder does not exist.
        ConfigError: If the config reads something else than angiograms with anatomy.
    """
    from vasomim.data.pack_format import is_packed
    from vasomim.engine.strict import check_config

    root = existing_folder(folder)
    if cfg.get('default_scope') in DOWNSTREAM:
        for part in ('train', 'val', 'test'):
            if cfg.get(f'{part}_dataloader'):
                cfg[f'{part}_dataloader'].dataset.data_root = str(root)
            for evaluator in evaluators(cfg, part):
                if evaluator.get('ann_file'):
                    evaluator['ann_file'] = str(root / Path(evaluator['ann_file']).name)
        return
    if is_packed(root):
        data: dict[str, Any] = dict(type='PackedAngiograms', data_root=str(root))
    elif merged_sources(root):
        data = dict(type='XA170K', data_root=str(root))
    else:
        maps = maps_beside(root)
        data = dict(type='AngiogramFolder', data_root=str(root), anatomy_root=str(maps) if maps.is_dir() else None)
    for loader in ('train_dataloader', 'val_dataloader'):
        dataset = (cfg.get(loader) or {}).get('dataset') or {}
        if dataset.get('type') not in ('XA170K', 'AngiogramFolder', 'PackedAngiograms'):
            raise ConfigError(
                '--data',
                f'{loader} of {cfg.filename} reads a {dataset.get("type")}.',
                'Set its folder by --cfg-options instead.',
            )
        kept = {key: value for key, value in dataset.items() if key not in ('type', 'data_root', 'anatomy_root')}
        cfg[loader].dataset = {**data, **kept}  # Sources that the config names win.
    check_config(cfg)  # An option of the other kind of dataset, such as the sources of XA-170K, is not dropped.


def check_head(cfg: Config) -> None:
    """Compare the classes that a model tells apart with those of a prepared set of one's own.

    mmdet takes the first class too many for its background, and says nothing.

    Raises:
        ConfigError: If their numbers differ; the cure sets the model's.
    """
    from vasomim.prepare.prepared import DESCRIPTION, read_description

    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    root = Path(str(dataset.get('data_root'))).expanduser()
    if dataset.get('type') not in OWN_CLASSES or dataset.get('metainfo') or not (root / DESCRIPTION).is_file():
        return
    needs, place, more = OWN_CLASSES[dataset['type']]
    description = read_description(root)
    head = cfg.model
    for part in place.split('.'):
        head = head.get(part) or {}
    wanted = len(description['classes']) + more
    if description[needs] and head.get('num_classes', wanted) != wanted:
        key, classes = f'model.{place}.num_classes', ', '.join(description['classes'])
        raise ConfigError(
            str(cfg.filename),
            f'{key} is {head["num_classes"]}; the {needs} of {root} need {wanted}: {classes}.',
            f'Pass --cfg-options {key}={wanted}.',
        )


def evaluators(cfg: Config, part: str) -> list[Any]:
    """Return the configs of what measures a part, 'val' or 'test': none, one or several, to be changed in place."""
    given = cfg.get(f'{part}_evaluator') or []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def use_encoder(cfg: Config, source: str) -> None:
    """Let a downstream task, or a further pre-training, start from a pre-trained encoder.

    Args:
        cfg: The config, changed in place.
        source: A checkpoint, the folder of a run, or the name of weights that come with the package.

    Raises:
        CheckpointError: If there is no such checkpoint.
        ConfigError: If the model has no encoder, other weights are loaded into the whole model, or its parameters are
            divided among processes before it is loaded.
    """
    from vasomim.checkpoints.runs import find_weights

    if 'backbone' not in cfg.model:
        raise ConfigError('--init', f'the {cfg.model.type} of {cfg.filename} has no encoder.', 'Leave it out.')
    if cfg.get('load_from') and not cfg.get('resume'):
        raise ConfigError('--init', f'it contradicts load_from={cfg.load_from}.', 'Pass one of the two.')
    if cfg.get('runner_type') == 'ShardedRunner':
        cure = f'Write {source} as .pth by `vasomim convert`, and pass --cfg-options load_from=CONVERTED.pth.'
        raise ConfigError('--init', 'ShardedRunner divides the encoder before it is loaded.', cure)
    hook = dict(type='mmpretrain.EncoderInitHook', checkpoint=str(find_weights(source)))
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def checkpoint_to_resume(wanted: str, work_dir: Path) -> str | None:
    """Return the checkpoint to continue from; None where the work directory holds none yet.

    Args:
        wanted: A file, a run's folder for its last whole checkpoint, or 'auto' for that of the work directory.
        work_dir: The run's folder. It may have been moved since the checkpoint was written.

    Raises:
        CheckpointError: If the checkpoint does not exist, or all of the folder are damaged.
    """
    from vasomim.checkpoints.runs import last_checkpoint

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


def earlier_run(cfg: Config, options: argparse.Namespace) -> list[Path]:
    """Return what ``--overwrite`` deletes before a new training: the checkpoints that its work directory holds already.

    Raises:
        ConfigError: If there are some, and neither is this training their continuation nor may it delete them.
    """
    work_dir = Path(cfg.work_dir)
    if options.overwrite and options.resume is not None:
        raise ConfigError('--overwrite', 'it contradicts --resume.', 'Pass one of the two.')
    if cfg.get('resume') and cfg.get('load_from') and Path(cfg.load_from).resolve().parent == work_dir.resolve():
        return []
    found = [path for path in work_dir.glob('*.pth') if path.name.startswith('best_') or path.stem[-1].isdigit()]
    if found and not options.overwrite:
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
    """Build the runner that the config names with ``runner_type``, mmengine's without one."""
    from mmengine.runner import Runner

    name = cfg.get('runner_type')
    if not name:
        return Runner.from_cfg(cfg)
    from vasomim.registry import RUNNERS

    runner = RUNNERS.get(name)
    if runner is None:
        raise ConfigError(
            cfg.filename,
            f"runner_type: '{name}' is not registered.{did_you_mean(name, RUNNERS.module_dict)}",
            "Leave it out for mmengine's own runner.",
        )
    return runner.from_cfg(cfg)


def say(line: str) -> None:
    """Print a line once, however many processes there are."""
    if process_number() == 0:
        print(line, flush=True)


def process_number() -> int:
    """Return the number of this process among those that a launcher has started."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')))
