"""Make the anatomy maps of folders of angiograms, without labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError, printable
from vasomim.files import LOCK, locked, write_whole
from vasomim.frames.layout import ANATOMY_SUFFIX, existing_folder, list_folder, map_names, maps_beside, merged_sources
from vasomim.prepare.anatomy_maps import Settings, Task, extract_all, record, recorded
from vasomim.processes import number_of
from vasomim.progress import progress_bar

REPORT_FILE = 'extract_report.json'


@dataclass(frozen=True)
class ExtractedFolder:
    """What came of the frames of one folder.

    Attributes:
        source: The frames.
        destination: The maps: PNG files of 0 and 255.
        settings: How they were made.
        made: Number of new maps.
        kept: Number of sound maps that were there already.
        failed: Why a frame has no map, by its name.
        broken: What was wrong with a map that was there, by the name of its frame.
        empty: Frames whose new map holds no vessel.
        unread: Pictures of kinds that are not read.
        recorded: Whether ``destination`` says with which settings all its maps were made.
    """

    source: Path
    destination: Path
    settings: Settings
    made: int
    kept: int
    failed: dict[str, str]
    broken: dict[str, str]
    empty: list[str]
    unread: list[str]
    recorded: bool


@dataclass(frozen=True)
class Extraction:
    """What came of an extraction; several folders if its source is the root of XA-170K."""

    folders: tuple[ExtractedFolder, ...]

    @property
    def failed(self) -> int:
        """Number of frames without a map."""
        return sum(len(folder.failed) for folder in self.folders)


def extract(
    source: str | Path,
    destination: str | Path | None = None,
    *,
    filter: str | None = None,
    sigmas: Sequence[float] | None = None,
    percentile: float | None = None,
    border: int | None = None,
    suffix: str = ANATOMY_SUFFIX,
    jobs: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
    finished: Callable[[ExtractedFolder], None] | None = None,
) -> Extraction:
    """Make the anatomy maps of a folder of angiograms.

    A run that was stopped continues: sound maps are kept, and broken ones (unreadable, not of two values, not of their
    frame's size) are made again, as they were made if no setting is given.

    Args:
        source: Folder of images, with sub-folders or without.
        destination: Where the maps go, in the same tree of names; None means beside ``source`` with the suffix, and
            where that is the root of XA-170K, beside each of its sources.
        filter: 'sato', 'frangi' or 'contrast'; None means that of the maps there, otherwise 'sato'.
        sigmas: Vessel half-widths, pixels, > 0; None means the filter's own.
        percentile: Threshold on the vesselness, percent of the pixels, [0, 100]; None means the filter's own.
        border: Pixels at the edge that are never vessel, >= 0; None means the usual ones.
        suffix: Ending of folders with anatomy maps.
        jobs: Processes, >= 1; None means one for each core.
        overwrite: Whether the maps that are there are made again.
        progress: Whether to show a progress bar.
        finished: Called with each folder when it is done.

    Raises:
        DatasetError: If there is nothing to extract from, two frames would share a map, or a process dies.
        ConfigError: If a setting is out of range, or the destination holds maps made with others.
        StorageError: If the destination cannot be written, or another extraction writes there.
    """
    widths = None if sigmas is None else [float(sigma) for sigma in sigmas]  # As a record of them holds numbers.
    given = (filter, widths, None if percentile is None else float(percentile), border)
    try:
        settings = Settings.of(*given)
        settings.check()
    except ValueError as error:
        raise ConfigError('options', str(error), '`vasomim extract --help` shows the defaults.') from error
    processes = number_of(jobs)
    changed = any(value is not None for value in given)
    done = []
    for frames, maps in folders(source, destination, suffix):
        own = settings if changed else recorded(maps) or settings
        done.append(extract_folder(frames, maps, own, suffix, processes, overwrite, progress))
        if finished:
            finished(done[-1])
    return Extraction(tuple(done))


def folders(source: str | Path, destination: str | Path | None, suffix: str) -> list[tuple[Path, Path]]:
    """Pair folders of frames with the folders of their maps.

    Raises:
        DatasetError: If ``source`` is not a folder, or is its own destination.
        ConfigError: If the destination follows from the suffix and that is empty.
    """
    source = existing_folder(source)
    if destination is None:
        if not suffix:
            raise ConfigError('--suffix', 'with an empty one the maps would overwrite the frames.', 'Name DST.')
        pairs = [(source / name, source / f'{name}{suffix}') for name in merged_sources(source, suffix)]
        return pairs or [(source.resolve(), maps_beside(source, suffix))]
    destination = Path(destination)
    if destination.resolve() == source.resolve():
        raise DatasetError(destination, 'maps here would overwrite the frames.', 'Name another folder for the maps.')
    return [(source, destination)]


def extract_folder(
    source: Path, destination: Path, settings: Settings, suffix: str, processes: int, overwrite: bool, progress: bool
) -> ExtractedFolder:
    """Make the maps of one folder that are not there yet or broken, and write the report of it; see :func:`extract`."""
    found = list_folder(source, suffix, without=destination)
    names = map_names(found.images, source)
    tasks = [Task(name, source / name, destination / target) for name, target in names.items()]
    busy = 'another `vasomim extract` writes here.'
    with locked(destination / LOCK, busy, 'Wait until it has ended; the same command then continues.', keep=False):
        done = [task for task in tasks if task.target.exists()]
        if overwrite:
            for task in done:  # Before the settings change, so that a stop in between leaves no mixture behind.
                task.target.unlink()
            done = []
        known = record(destination, settings, has_maps=bool(done), overwrite=overwrite)
        outcomes = []
        with progress_bar(source.name, progress, 'frames') as report:
            report(0, len(tasks))
            for outcome in extract_all(tasks, settings, processes):
                outcomes.append(outcome)
                report(len(outcomes), len(tasks))
        outcomes.sort(key=lambda each: each.name)
        failed = {outcome.name: outcome.error for outcome in outcomes if outcome.error}
        kept = sum(outcome.kept for outcome in outcomes)
        result = ExtractedFolder(
            source=source,
            destination=destination,
            settings=settings,
            made=len(outcomes) - len(failed) - kept,
            kept=kept,
            failed=failed,
            broken={outcome.name: outcome.broken for outcome in outcomes if outcome.broken},
            empty=[outcome.name for outcome in outcomes if outcome.empty],
            unread=found.unread,
            recorded=known,
        )
        write_whole(destination / REPORT_FILE, json.dumps(report_of(result), indent=2))
    return result


def report_of(folder: ExtractedFolder) -> dict[str, object]:
    """Return what the report at the destination says."""
    return {
        'source': printable(folder.source),
        'settings': asdict(folder.settings),
        'made': folder.made,
        'already_there': folder.kept,
        'broken': {printable(name): printable(fault) for name, fault in folder.broken.items()},
        'failed': {printable(name): printable(error) for name, error in folder.failed.items()},
        'made_without_vessel': [printable(name) for name in folder.empty],
    }
