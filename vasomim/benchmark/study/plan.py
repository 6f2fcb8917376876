"""Which jobs a protocol asks for, with what they read; what is missing on disk is found before anything runs."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vasomim import __version__
from vasomim.benchmark.results.records import digest, name_of
from vasomim.benchmark.study.entries import SMOKE, Entries, Method, Protocol, Task, command_of
from vasomim.benchmark.study.jobs import FINETUNE, PRETRAIN, SCRATCH, Job, encoder_of, weights_input
from vasomim.benchmark.study.resolve import (
    Fingerprints,
    config_hash,
    data_folder,
    file_sha256,
    finetuning_config,
    frames_hash,
    pretraining_config,
)
from vasomim.errors import CheckpointError, DatasetError, VasoMIMError

if TYPE_CHECKING:
    from mmengine.config import Config


@dataclass(frozen=True)
class Settings:
    """Where a run reads and writes.

    Attributes:
        results: Folder of the store.
        work_dir: Where jobs train.
        data_root: Takes the place of ``data`` in the entries; None leaves it.
        entries: Files of the user's own entries, for the command that computes a cell again.
        threads: Threads of a job.
        processes: Processes of a pre-training.
    """

    results: Path
    work_dir: Path
    data_root: str | None = None
    entries: tuple[str, ...] = ()
    threads: int = 1
    processes: int = 1


@dataclass(frozen=True)
class Plan:
    """What a protocol asks for.

    Attributes:
        protocol: After the selection.
        pretrainings: One per method that pre-trains, or one for each of its seeds.
        cells: In the order of task, method, label fraction and seed.
        problems: What keeps cells from running, each once.
    """

    protocol: Protocol
    pretrainings: list[Job]
    cells: list[Job]
    problems: list[VasoMIMError] = field(default_factory=list)

    @property
    def jobs(self) -> list[Job]:
        """All jobs, pre-trainings first."""
        return [*self.pretrainings, *self.cells]


@dataclass(frozen=True)
class Encoder:
    """Where a cell's encoder comes from.

    Attributes:
        hashed: What names it in the inputs of a cell.
        file: Its checkpoint; None from scratch.
        job: The pre-training that makes it.
    """

    hashed: str
    file: Path | None = None
    job: Job | None = None


def make_plan(entries: Entries, protocol: Protocol, settings: Settings) -> Plan:
    """Resolve all jobs of a protocol.

    What is missing on disk becomes a problem of the plan, and the cells that need it are left out; wrong entries and
    options raise.

    Raises:
        ConfigError: If an entry or an option is wrong.
    """
    fingerprints = Fingerprints(settings.work_dir / 'fingerprints.json')
    problems: dict[str, VasoMIMError] = {}
    weights: dict[str, dict[int, Encoder]] = {}
    for name in dict.fromkeys(method for _, method, _ in protocol.planned()):
        try:
            weights[name] = encoders_of(entries.method(name), protocol, settings, fingerprints)
        except (DatasetError, CheckpointError) as error:
            problems.setdefault(str(error), error)
    cells: list[Job] = []
    for task_name in protocol.tasks:
        task = entries.task(task_name)
        for method_name in protocol.methods:
            method = entries.method(method_name)
            try:
                made = cells_of(task, method, entries, protocol, settings, fingerprints, weights.get(method_name, {}))
            except (DatasetError, CheckpointError) as error:
                problems.setdefault(str(error), error)
            else:
                cells.extend(made)
    pretrainings = {
        encoder.job.name: encoder.job for of in weights.values() for encoder in of.values() if encoder.job is not None
    }
    return Plan(protocol, list(pretrainings.values()), cells, list(problems.values()))


def encoders_of(
    method: Method, protocol: Protocol, settings: Settings, fingerprints: Fingerprints
) -> dict[int, Encoder]:
    """Return the encoder of a method for each seed of the study.

    Raises:
        DatasetError: If the frames of its pre-training are missing.
        CheckpointError: If its checkpoint is missing.
    """
    if method.kind == 'scratch':
        return dict.fromkeys(protocol.seeds, Encoder(SCRATCH))
    if method.kind == 'checkpoint':
        path = checkpoint_of(method)
        if path is None:
            raise CheckpointError(
                str(method.checkpoint), f"the checkpoint of method '{method.name}' is missing.", 'Correct its entry.'
            )
        return dict.fromkeys(protocol.seeds, Encoder(file_sha256(path), path.resolve()))
    if protocol.per_seed:
        return {seed: pretrained(method, protocol, settings, fingerprints, seed) for seed in protocol.seeds}
    return dict.fromkeys(protocol.seeds, pretrained(method, protocol, settings, fingerprints, 0))


def checkpoint_of(method: Method) -> Path | None:
    """Return the file of a brought encoder: from here, else from beside its entry; None where there is none."""
    assert method.checkpoint is not None
    places = (Path(method.checkpoint), Path(method.origin).parent / method.checkpoint)
    return next((path for path in places if path.is_file()), None)


def pretrained(
    method: Method, protocol: Protocol, settings: Settings, fingerprints: Fingerprints, seed: int
) -> Encoder:
    """Return the encoder that a method's pre-training with a seed makes.

    Raises:
        DatasetError: If its frames are missing.
    """
    cfg = pretraining_config(method, protocol, settings.data_root, seed)
    inputs = {
        'method': method.name,
        'config': config_hash(cfg),
        'data': frames_hash(cfg, fingerprints),
        'seed': seed,
        'code': __version__,
    }
    if settings.processes > 1:  # Each brings a batch of its own, so that other weights come out.
        inputs['processes'] = settings.processes
    folder = settings.work_dir / 'pretrainings' / name_of(inputs)
    job = Job(
        kind=PRETRAIN,
        inputs=inputs,
        folder=folder.resolve(),
        results=settings.results.resolve(),
        config=config_text(cfg),
        threads=settings.threads,
        processes=settings.processes,
        smoke=protocol.smoke,
        command=command(protocol, settings, {'method': method.name, **({'seed': seed} if protocol.per_seed else {})}),
    )
    return Encoder(weights_input(inputs), encoder_of(job.folder), job)


def cells_of(
    task: Task,
    method: Method,
    entries: Entries,
    protocol: Protocol,
    settings: Settings,
    fingerprints: Fingerprints,
    weights: Mapping[int, Encoder],
) -> list[Job]:
    """Return the cells of a task and a method; none where its encoders, by seed, cannot be made.

    Raises:
        DatasetError: If the data of the task, or of a further test, are missing.
        CheckpointError: If a brought checkpoint does not fit the task's config.
    """
    folder = prepared_folder(task, settings)
    data = fingerprints.prepared(folder) if folder is not None else None
    if not weights:
        return []
    # A selection of tasks changes no cell: the other tests are those of the whole study whose data are here.
    also: dict[str, dict[str, Any]] = {}
    for other in (entries.task(name) for name in further_tests(task, protocol)):
        other_folder = prepared_folder(other, settings)
        with contextlib.suppress(DatasetError):
            assert other_folder is not None
            also[other.name] = {'task': other, 'data': other_folder, 'fingerprint': fingerprints.prepared(other_folder)}
    cells: list[Job] = []
    for fraction in protocol.label_fractions:
        for seed in protocol.seeds if protocol.plans(task.name, method.name, fraction) else ():
            encoder = weights[seed]

            def config(of: Task, seed: int = seed, fraction: float = fraction) -> Config:
                return finetuning_config(of, method, protocol, seed, fraction, settings.data_root)

            main = config(task) if task.config is not None else None
            if not cells and main is not None and method.kind == 'checkpoint':
                check_fits(main, method, encoder.file)
            hashed = config_hash(main) if main is not None else digest([task.task, task.options])
            inputs = cell_inputs(task, method.name, seed, fraction, hashed, data, encoder.hashed)
            cells.append(
                Job(
                    kind=FINETUNE,
                    inputs=inputs,
                    folder=(settings.work_dir / 'cells' / name_of(inputs)).resolve(),
                    results=settings.results.resolve(),
                    config=config_text(with_predictions(main)) if main is not None else '',
                    task=task,
                    data=folder,
                    encoder=encoder.file,
                    pretraining=encoder.job.name if encoder.job is not None else None,
                    also={
                        name: {**other, 'config': config_text(with_predictions(config(other['task'])))}
                        for name, other in also.items()
                    },
                    threads=settings.threads,
                    smoke=protocol.smoke,
                    command=command(
                        protocol,
                        settings,
                        {'task': task.name, 'method': method.name, 'seed': seed, 'label_fraction': fraction},
                    ),
                )
            )
    return cells


def cell_inputs(
    task: Task, method: str, seed: int, fraction: float, config: str, data: str | None, weights: str
) -> dict[str, Any]:
    """Return all that the result of a cell depends on, which its name is the hash of.

    Args:
        task: The task.
        method: Name of the method.
        seed: Of the fine-tuning.
        fraction: Share of the labels.
        config: Hash of the settings.
        data: Hash of the prepared set; None for a function without one.
        weights: What names the encoder.
    """
    return {
        'task': task.name,
        'task_version': task.version,
        'method': method,
        'seed': seed,
        'label_fraction': fraction,
        'config': config,
        'data': data,
        'metrics': list(task.metrics),
        'subgroups': list(task.subgroups),
        'weights': weights,
        'code': __version__,
    }


def further_tests(task: Task, protocol: Protocol) -> list[str]:
    """Return the other tasks on whose test images the models of a task are tested: those of the whole study."""
    whole = protocol.whole or protocol
    return [name for name in task.also_test if name in whole.tasks]


def check_fits(cfg: Config, method: Method, checkpoint: Path | None) -> None:
    """Load a brought checkpoint into the encoder of a config, as a cell would when its turn comes.

    Raises:
        CheckpointError: If it does not fit.
    """
    from mmengine.utils import import_modules_from_strings

    from vasomim.engine.initialize import load_encoder
    from vasomim.registry import MODELS

    assert checkpoint is not None
    import_modules_from_strings(**cfg.custom_imports)
    try:
        load_encoder(MODELS.build(cfg.model.backbone), checkpoint)
    except CheckpointError as error:
        # In a study an option stands in the method's entry, not on a command line.
        cure = re.sub(r'--cfg-options (\S+)=([^\s,]+)', r"'finetune_options: {\1: \2}' in its entry", error.cure)
        raise CheckpointError(f"checkpoint of method '{method.name}'", error.what, cure) from error


def prepared_folder(task: Task, settings: Settings) -> Path | None:
    """Return the folder of a task's data, None for a task without one."""
    return data_folder(task.data, settings.data_root).expanduser().resolve() if task.data is not None else None


def with_predictions(cfg: Config) -> Config:
    """Return a config whose tests keep their predictions and measure no more than what picks the cases to draw."""
    cfg.custom_imports.imports = [*cfg.custom_imports.imports, 'vasomim.benchmark.scoring.predictions']
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='mmpretrain.PredictionHook')]
    if cfg.default_scope == 'mmseg':
        cfg.test_evaluator.measures, cfg.test_evaluator.subgroups = ['DSC'], []
    return cfg


def config_text(cfg: Config) -> str:
    """Return a config as Python, without mmengine's slow formatter: all of it is plain values."""
    from vasomim.engine.strict import SECTIONS

    values = cfg.to_dict()
    kept = {key: value for key, value in values.items() if key in SECTIONS[''] or key in ('custom_imports',)}
    return ''.join(f'{key} = {value!r}\n' for key, value in kept.items())


def command(protocol: Protocol, settings: Settings, cell: Mapping[str, Any]) -> str:
    """Return what computes a cell again."""
    parts = [*command_of(protocol.name), *protocol.changes]
    for source in settings.entries:
        parts += ['--entries', source]
    if settings.data_root is not None and protocol.name != SMOKE:
        parts += ['--data', settings.data_root]
    return shlex.join([*parts, '--only', *(f'{key}={value}' for key, value in cell.items())])
