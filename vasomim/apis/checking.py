"""Check prepared data, labelled or to pre-train on, and what leaks between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import ConfigError
from vasomim.files import write_whole
from vasomim.frames.layout import existing_folder
from vasomim.prepare import check as checks
from vasomim.prepare.pool_check import check_joined_lists, check_source, source_names
from vasomim.prepare.prepared import sets_in
from vasomim.processes import number_of
from vasomim.progress import progress_bar


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        errors: What must be mended.
        warnings: What should be known.
        notes: Counts and statistics.
        sets: Number of sets and sources that were read.
        excluded: Number of training frames on the list that was written; None where none was.
    """

    errors: list[str]
    warnings: list[str]
    notes: list[str]
    sets: int
    excluded: int | None


def check(
    sets: str | Path | Sequence[str | Path],
    *,
    against: Sequence[str | Path] = (),
    deep: bool = False,
    jobs: int | None = None,
    partial: bool = False,
    threshold: float = 0.97,
    write_exclusions: str | Path | None = None,
    progress: bool = False,
) -> Checked:
    """Check files, counts, masks, boxes, anatomy maps, grey levels, and duplicates across splits.

    Args:
        sets: Prepared sets, folders of them, or of sources to pre-train on.
        against: Folders of frames to pre-train on, in which frames of the sets' test splits are looked for.
        deep: Whether frames to pre-train on are compared with the SHA-256 of their manifest.
        jobs: Processes that read frames to pre-train on, >= 1; None means one for each core.
        partial: Whether the sets are parts of the published ones, so that counts do not matter.
        threshold: Correlation of near-duplicates at 64 x 64, in (0, 1).
        write_exclusions: JSON file to write: near-duplicates, and the training frames to leave out.
        progress: Whether to show progress bars.

    Raises:
        DatasetError: If a folder does not exist, or a process dies.
        StorageError: If the list cannot be written.
        ConfigError: If a number is out of range, or frames are to be compared with no labelled set.
    """
    if not 0 < threshold < 1:
        raise ConfigError('--threshold', f'{threshold} is no correlation of duplicates.', 'Try 0.97.')
    processes = number_of(jobs)
    findings, opened, excluded = checks.Findings(), [], None
    given = [existing_folder(path) for path in ([sets] if isinstance(sets, str | Path) else sets)]
    labelled = [root for root in given if not source_names(root)]
    for name, wanted in (('--against', against), ('--write-exclusions', write_exclusions)):
        if wanted and not labelled:
            what = 'there is no labelled set among DST to compare with.'
            raise ConfigError(name, what, 'Name one that `vasomim prepare downstream` made, as a DST.')
    pools = [(root, name) for root in given for name in source_names(root)]
    for root, name in pools:
        with progress_bar(f'Reading {name}', progress) as report:
            check_source(root, name, findings, deep, partial, processes, report)
    for root in dict(pools):
        check_joined_lists(root, findings)
    for root in (found for folder in labelled for found in sets_in(folder)):
        with progress_bar(f'Reading {root.name}', progress) as report:
            prepared = checks.check_set(root, findings, partial, report)
        if prepared is not None:
            opened.append(prepared)
    if opened and not findings.errors:  # Damaged frames cannot be compared.
        with progress_bar('Comparing frames', progress) as report:
            gallery = checks.gather(opened, report)
        pairs = checks.find_similar(gallery, threshold)
        content = checks.exclusions(gallery, pairs, threshold)
        checks.check_leaks(gallery, pairs, content['exclude'], findings)
        for corpus in map(Path, against):
            with progress_bar(f'Comparing {corpus.name}', progress) as report:
                checks.check_corpus(existing_folder(corpus), gallery, threshold, findings, report)
        if write_exclusions is not None:
            write_whole(write_exclusions, json.dumps(content, indent=1))
            excluded = len(content['exclude'])
    elif write_exclusions or against:
        findings.notes.append('frames were not compared, because of the errors.')
    count = len(opened) + len(pools)
    return Checked(findings.errors, findings.warnings, findings.notes, count, excluded)
