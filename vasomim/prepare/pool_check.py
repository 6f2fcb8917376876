"""Check sources prepared to pre-train on: frames and maps against their manifest, lists, grey levels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vasomim.errors import DatasetError
from vasomim.files import read_json, read_regular
from vasomim.frames.images import read_grey, read_mask
from vasomim.frames.layout import ANATOMY_SUFFIX
from vasomim.prepare.check import Findings, some
from vasomim.prepare.lists import FOLDER, SUBSETS, joined
from vasomim.prepare.pool import manifest_path, read_manifest
from vasomim.processes import for_each
from vasomim.progress import Report

CHUNK = 64
FEW = 512  # Up to here other processes take longer to start than the frames to read.
UNFINISHED = 'its preparation did not finish; the same command continues it.'


@dataclass
class Seen:
    """What reading some frames showed; the sums are over the grey levels of all pixels, the counts over frames."""

    frames: int = 0
    pixels: int = 0
    total: int = 0
    squares: int = 0
    empty: int = 0
    problems: dict[str, list[str]] = field(default_factory=dict)

    def problem(self, what: str, place: str) -> None:
        """Note a problem of a file."""
        self.problems.setdefault(what, []).append(place)

    def add(self, other: Seen) -> None:
        """Take in what other frames showed."""
        for name in ('frames', 'pixels', 'total', 'squares', 'empty'):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for what, places in other.problems.items():
            self.problems.setdefault(what, []).extend(places)


def source_names(root: Path) -> list[str]:
    """Return the sources that were prepared in a folder, or begun; none if it is something else."""
    begun = [path.name[1 : -len('.journal')] for path in root.glob('.*.journal')]
    finished = [path.stem for path in root.glob('*.csv') if (root / f'{path.stem}.json').is_file()]
    return sorted({*begun, *finished})


def check_source(
    root: Path,
    name: str,
    findings: Findings,
    deep: bool = False,
    partial: bool = False,
    processes: int = 1,
    report: Report | None = None,
) -> None:
    """Check one source.

    Args:
        root: DST of the preparation.
        name: Name of the source.
        findings: Gets what is found; grey-level statistics are a note.
        deep: Whether each file is compared with its SHA-256.
        partial: Whether the source is meant to be a part of the published one, so that counts do not matter.
        processes: How many read at a time.
        report: Called with (frames done, frames in all).

    Raises:
        DatasetError: If a process that reads them dies.
    """
    try:
        if not manifest_path(root, name).is_file():
            raise DatasetError(manifest_path(root, name), UNFINISHED, 'Prepare the source again.')
        rows = read_manifest(manifest_path(root, name))
        summary = read_summary(root / f'{name}.json')
    except DatasetError as error:
        findings.errors.append(str(error))
        return
    listed = {row['file'] for row in rows}
    if len(listed) < len(rows):
        findings.errors.append(f'{manifest_path(root, name)}: {len(rows) - len(listed)} frames are listed twice.')
    if len(rows) != summary['kept']:
        what = f'lists {len(rows)} frames; {summary["kept"]} were prepared.'
        findings.errors.append(f'{manifest_path(root, name)}: {what}')
    seen = read_all(root, name, rows, deep, processes, report)
    for what, places in seen.problems.items():
        findings.errors.append(f'{root / name}: {what}, {some(places)}')
    for folder in (root / name, root / f'{name}{ANATOMY_SUFFIX}'):
        here = {path.name for path in folder.iterdir() if path.suffix != '.json'} if folder.is_dir() else set()
        odd = sorted(here - listed)
        if odd:
            findings.errors.append(f'{folder}: files that the manifest does not list, {some(odd)}')
    if summary['damaged']:
        places = [f'{place} ({message})' for place, message in summary['damaged']]
        findings.warnings.append(f'{root / name}: files damaged on preparation and left out, {some(places)}')
    for unit, published in summary['published'].items():
        if summary[unit] == published:
            findings.notes.append(f'{root / name}: {published} {unit} in the source, as published.')
        elif not partial:
            what = f'{summary[unit]} {unit} in the source; published are {published} (--partial if that is meant).'
            findings.warnings.append(f'{root / name}: {what}')
    if seen.empty:
        findings.notes.append(f'{root / name}: {seen.empty} anatomy maps hold no vessel.')
    if seen.pixels:
        findings.notes.append(f'{root / name}: {statistics(seen)}')
    try:
        check_lists(root, name, rows, summary.get('lists') or {}, findings)
    except DatasetError as error:
        findings.errors.append(str(error))


def read_summary(path: Path) -> dict[str, Any]:
    """Return what the preparation wrote of a source.

    Raises:
        DatasetError: If it cannot be read.
    """
    cure = 'Prepare the source again.'
    if not path.exists():
        raise DatasetError(path, UNFINISHED, cure)
    summary: dict[str, Any] = read_json(path, DatasetError, cure)
    fault = fault_of_summary(summary)
    if fault:
        raise DatasetError(path, fault, cure)
    return summary


def fault_of_summary(summary: dict[str, Any]) -> str:
    """Return what is wrong with what the preparation wrote of a source; '' if nothing is."""
    numbers = [summary.get(key) for key in ('kept', 'frames', 'patients')]
    published, damaged, lists = (summary.get(key) for key in ('published', 'damaged', 'lists'))
    if not isinstance(published, dict) or not isinstance(damaged, list) or not isinstance(lists or {}, dict):
        return 'its counts or its lists are missing or damaged.'
    numbers += published.values()
    if any(type(number) is not int for number in numbers) or not published.keys() <= {'frames', 'patients'}:
        return 'its counts are no numbers.'
    pairs = [pair if isinstance(pair, list) else [] for pair in damaged]
    if not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
        return 'its list of damaged files is damaged.'
    return ''


def read_all(root: Path, name: str, rows: Sequence[dict], deep: bool, processes: int, report: Report | None) -> Seen:
    """Return what the frames showed, read :data:`CHUNK` at a time."""
    parts = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    jobs = 1 if len(rows) <= FEW else processes
    found: dict[int, Seen] = {}
    for place, part in for_each(partial(read_chunk, root, name, deep=deep), parts, jobs, root / name, isolate=False):
        found[place] = part
        if report:
            report(min(len(found) * CHUNK, len(rows)), len(rows))
    seen = Seen()
    for place in range(len(parts)):  # In the order of the manifest, in which the findings name files.
        seen.add(found[place])
    return seen


def read_chunk(root: Path, name: str, rows: Sequence[dict], deep: bool) -> Seen:
    """Read frames and their maps."""
    seen = Seen()
    for row in rows:
        file = row['file']
        frame, anatomy = root / name / file, root / f'{name}{ANATOMY_SUFFIX}' / file
        shape = None
        if not frame.is_file():
            seen.problem('frames are missing', file)
        else:
            try:
                pixels = read_grey(frame)
                shape = pixels.shape
                seen.frames += 1
                seen.pixels += pixels.size
                counts = np.bincount(pixels.ravel(), minlength=256)
                seen.total += int(counts @ np.arange(256))
                seen.squares += int(counts @ np.arange(256) ** 2)
                if deep and hashlib.sha256(frame.read_bytes()).hexdigest() != row['sha256']:
                    seen.problem('frames are not those of the manifest', file)
            except DatasetError as error:
                seen.problem('frames cannot be read', f'{file} ({error.what})')
        if not anatomy.is_file():
            seen.problem('anatomy maps are missing', file)
            continue
        try:
            mask = read_mask(anatomy)
        except DatasetError as error:
            seen.problem('anatomy maps cannot be read', f'{file} ({error.what})')
            continue
        seen.empty += not mask.any()
        if shape is not None and mask.shape != shape:
            seen.problem('anatomy maps have another size than their frames', file)
    return seen


def statistics(seen: Seen) -> str:
    """Return the mean and deviation of the grey levels in words, for the normalization."""
    mean = seen.total / seen.pixels
    deviation = math.sqrt(max(seen.squares / seen.pixels - mean**2, 0))
    return (
        f'grey levels of {seen.frames} frames: mean {mean:.3f}, std {deviation:.3f} '
        f'(of 0 to 1: mean {mean / 255:.4f}, std {deviation / 255:.4f}).'
    )


def check_lists(
    root: Path, name: str, rows: Sequence[dict[str, str]], recorded: Mapping[str, Any], findings: Findings
) -> None:
    """Check that the lists of a source are those prepared, name its frames, each once, and divide no patient.

    Raises:
        DatasetError: If a list cannot be read.
    """
    paths = {subset: root / FOLDER / f'{name}_{subset}.txt' for subset in SUBSETS}
    if not recorded and not any(path.is_file() for path in paths.values()):
        return
    patient_of = {f'{name}/{row["file"]}': row['patient'] or row['series'] or row['file'] for row in rows}
    sides: dict[str, set[str]] = {}
    listed: list[str] = []
    for subset, path in paths.items():
        content = read_regular(path, DatasetError, 'Prepare the source again.')
        entry = recorded.get(subset)
        if isinstance(entry, dict) and entry.get('sha256') != hashlib.sha256(content).hexdigest():
            findings.errors.append(f'{path}: it is not the list that was prepared, of {entry.get("frames")} frames.')
        lines = content.decode('utf-8', errors='surrogateescape').splitlines()
        listed += lines
        for line in lines:
            sides.setdefault(patient_of.get(line, ''), set()).add(subset)
    odd = sorted({*listed} ^ {*patient_of})
    if odd or len(listed) != len(set(listed)):
        what = 'list frames twice, or others than the manifest' + (f', {some(odd)}' if odd else '.')
        findings.errors.append(f'{root / FOLDER}: {name}_train.txt and {name}_held_out.txt {what}')
    torn = sorted(patient for patient, subsets in sides.items() if len(subsets) > 1)
    if torn:
        findings.errors.append(f'{root / FOLDER}: patients or series of {name} in both lists, {some(torn)}')


def check_joined_lists(root: Path, findings: Findings) -> None:
    """Check that the lists of all sources are those of each source, one after the other."""
    for subset in SUBSETS:
        path = root / FOLDER / f'{subset}.txt'
        try:
            parts = joined(path.parent, subset)
            if (parts or path.exists()) and read_regular(path, DatasetError, 'Prepare a source again.') != parts:
                what = f'it is not the lists *_{subset}.txt of the sources, one after the other.'
                findings.errors.append(f'{path}: {what} Prepare one of them again.')
        except DatasetError as error:
            findings.errors.append(str(error))
