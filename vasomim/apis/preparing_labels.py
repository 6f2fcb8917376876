"""Bring labelled data, as published or your own, into the prepared layout, for segmentation or detection."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vasomim.apis.synthesizing import synthesize
from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.prepare.archive import open_source
from vasomim.prepare.catalog import all_datasets, find_dataset
from vasomim.prepare.destination import reserved
from vasomim.prepare.folder import FOLDER
from vasomim.prepare.plan import SPLITS, Repairs
from vasomim.prepare.published import PublishedDataset
from vasomim.prepare.recognition import find_root
from vasomim.prepare.splitting import Choices
from vasomim.prepare.write import write_plan
from vasomim.progress import progress_bar

SYNTHETIC = 'synthetic'


@dataclass(frozen=True)
class PreparedLabels:
    """A prepared set.

    Attributes:
        root: Its folder.
        name: Which set it is.
        frames: Number of frames of 'train', 'val' and 'test'.
        split_rule: In words, where the splits come from.
        repairs: What was changed or left out.
    """

    root: Path
    name: str
    frames: dict[str, int]
    split_rule: str
    repairs: Repairs


@dataclass(frozen=True)
class PreparedDownstream:
    """The sets that came of a source: ARCADE gives three, others one."""

    sets: tuple[PreparedLabels, ...]


def prepare_downstream(
    kind: str,
    source: str | Path,
    destination: str | Path,
    *,
    seed: int = 0,
    val: float = 0.1,
    test: float | None = None,
    group: str | None = None,
    threshold: int | None = None,
    label: str | None = None,
    skip_missing: bool = False,
    frames: int = 64,
    size: int = 512,
    jobs: int | None = None,
    progress: bool = False,
    finished: Callable[[PreparedLabels], None] | None = None,
) -> PreparedDownstream:
    """Prepare labelled data; a run that was stopped continues by the same call.

    Args:
        kind: A published dataset of :func:`vasomim.prepare.catalog.all_datasets`, 'folder' for your own labels, or
            'synthetic', for which ``source`` names a dataset that is simulated into ``<destination>_published`` first.
        source: Folder or zip file.
        destination: Folder of the prepared set, or where a source gives several, of their folders.
        seed: Of the splits, where none are published.
        val: Share of the frames for validation where none is published, in [0, 1).
        test: Share of the frames for testing where no list says it, in [0, 1); None means the set's published one.
        group: Regular expression that finds the patient in a name; None means as the dataset says.
        threshold: Grey levels of a mask above it are foreground; None means that masks have two values.
        label: What the masks of a folder of your own show; None means vessels.
        skip_missing: Whether listed images that are not on disk are left out.
        frames: Of 'synthetic': images in all.
        size: Of 'synthetic': height and width, pixels.
        jobs: Of 'synthetic': processes that simulate; None means one for each core.
        progress: Whether to show progress bars.
        finished: Called with each set when it is done.

    Raises:
        DatasetError: If the source is not what it should be, or the destination holds something else.
        ConfigError: If an argument is out of range, or the kind does not take it.
        StorageError: If the destination cannot be written, or another process prepares it.
    """
    choices = Choices(seed, test, val, threshold, group, skip_missing, label)
    root = Path(destination).expanduser()
    with reserved(root):
        if kind == SYNTHETIC:
            dataset = find_simulated(str(source))
            check_options(kind, choices, ('seed', 'val'))
            source = root.with_name(f'{root.resolve().name}_published')
            synthesize(source, layout=dataset.name, frames=frames, seed=seed, size=size, jobs=jobs, progress=progress)
        else:
            dataset = FOLDER if kind == FOLDER.name else find_dataset(kind)
            check_options(kind, choices, dataset.options)
        workplace = root.with_name(f'.{root.resolve().name}.unpacked')
        with progress_bar('Unpacking', progress) as report:
            folder = open_source(Path(source), workplace, report)
        published = folder if dataset is FOLDER else find_root(dataset, folder)
        with progress_bar('Reading annotations', progress) as report:
            plans = dataset.plans(published, choices, report)
        sets = []
        for plan in plans:
            own = root / plan.name if len(dataset.sets) > 1 else root
            with progress_bar(f'Preparing {plan.name}', progress) as report:
                repairs = write_plan(plan, own, report)
            counts = {split: sum(frame.split == split for frame in plan.frames) for split in SPLITS}
            sets.append(PreparedLabels(own, plan.name, counts, plan.split_rule, repairs))
            if finished:
                finished(sets[-1])
        if workplace.exists():  # Only where this or an earlier, stopped run unpacked an archive.
            shutil.rmtree(workplace)
    return PreparedDownstream(tuple(sets))


def check_options(kind: str, choices: Choices, taken: tuple[str, ...]) -> None:
    """Check that nothing was chosen that a kind of source does not leave open.

    Raises:
        ConfigError: If something was.
    """
    for option in fields(choices):
        value: Any = getattr(choices, option.name)
        if value != option.default and option.name not in taken:
            cure = f'It takes {", ".join(taken)}.' if taken else 'Leave it out.'
            raise ConfigError(option.name, f"sources of kind '{kind}' do not take it.", cure)


def find_simulated(name: str) -> PublishedDataset:
    """Return a published dataset that can be simulated.

    Raises:
        DatasetError: If there is none of that name.
    """
    simulated = {dataset.name: dataset for dataset in all_datasets() if dataset.simulate}
    if name not in simulated:
        hint = did_you_mean(name, simulated)
        raise DatasetError(name, f'no set to simulate.{hint}', f'Choose one of {", ".join(simulated)}.')
    return simulated[name]
