"""Which split each frame of a labelled set belongs to: by the owners' lists, or by whole patients and series."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.files import read_text
from vasomim.frames.layout import composed
from vasomim.prepare.grouping import series, split_by_group
from vasomim.prepare.plan import SPLITS, Repairs


@dataclass(frozen=True)
class Choices:
    """What a user may choose where the publisher has not.

    Attributes:
        seed: Of the splits.
        test: Share of the frames for testing, where no list is published; None: the set's own.
        val: Share of the frames for validation, where none is published.
        threshold: Grey levels of a mask above it are foreground; None: masks have two values.
        group: Regular expression whose first group, or whole match, names the patient of a frame.
        skip_missing: Whether listed images that are not on disk are left out.
        label: What the masks of somebody's own folder show; None: vessels.
    """

    seed: int = 0
    test: float | None = None
    val: float = 0.1
    threshold: int | None = None
    group: str | None = None
    skip_missing: bool = False
    label: str | None = None


def own_splits(
    names: list[str], groups: Mapping[str, str], unit: str, test: float, choices: Choices
) -> tuple[dict, str]:
    """Divide frames by their groups; return the split of each, and the rule in words."""
    if choices.seed < 0:
        raise ConfigError('--seed', f'{choices.seed} is no seed.', 'Name 0 or a positive number.')
    if choices.group is not None:
        groups, unit = matched(names, choices.group), 'group'
    shares = {'test': test if choices.test is None else choices.test, 'val': choices.val}
    for option, share in shares.items():
        if not 0 <= share < 1 or sum(shares.values()) >= 1:
            raise ConfigError(f'--{option}', f'{share:g} is no share that leaves frames to train on.', 'Try 0.1.')
    number = len(set(groups.values()))
    rule = f'ours: by {unit} ({number} of them), seed {choices.seed}, test {shares["test"]:.3g}, val {choices.val:.3g}'
    if all(name == group for name, group in groups.items()):
        rule += '; neither series nor patients can be told from the names, so leakage cannot be excluded'
    wanted = {split: share for split, share in shares.items() if share}
    return split_by_group(groups, wanted, choices.seed), rule


def matched(names: list[str], pattern: str) -> dict[str, str]:
    """Return the group of each frame by a user's regular expression.

    Raises:
        ConfigError: If it is no regular expression, or does not match a name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError('--group', f"'{pattern}' is no regular expression: {error}.", 'Try ^([^_]+)_ .') from error
    found = {name: compiled.search(name) for name in names}
    wrong = [name for name, match in found.items() if match is None]
    if wrong:
        what = f"'{pattern}' matches no part of {len(wrong)} of {len(names)} names (first: {wrong[0]})."
        raise ConfigError('--group', what, 'Its first group has to find the patient in every name.')
    return {name: match[1] if compiled.groups else match[0] for name, match in found.items() if match}


def listed_splits(root: Path, names: list[str], repairs: Repairs, choices: Choices) -> tuple[dict[str, str], str]:
    """Return the split of each frame by ``{train,val,test}.txt`` in ``root``, or by our own rule without them.

    Args:
        root: Where the lists lie.
        names: The frames, their letters composed.
        repairs: Gets the frames that stand in no list.
        choices: How to divide what the lists do not.

    Raises:
        DatasetError: If a list cannot be read, or names a frame that is not there or stands in another list.
    """
    paths = {split: root / f'{split}.txt' for split in SPLITS if (root / f'{split}.txt').is_file()}
    if not paths:
        return own_splits(names, series(names), 'series', 0.2, choices)
    split_of: dict[str, str] = {}
    here = set(names)
    for split, path in paths.items():
        for line in composed(read_text(path, DatasetError, 'Save it as UTF-8 text, a name a line.')).splitlines():
            file = Path(line.strip().replace('\\', '/'))
            stem = file.name if file.name in here else file.stem  # A name may hold dots, as 1.2.840.7 does.
            if not stem or line.startswith('#'):
                continue
            if stem not in here:
                hint = did_you_mean(stem, here)
                raise DatasetError(path, f"lists '{line.strip()}', which is not there.{hint}", 'Correct the list.')
            if split_of.setdefault(stem, split) != split:
                what = f"lists '{line.strip()}', and so does {split_of[stem]}.txt."
                raise DatasetError(path, what, 'A frame belongs to one split.')
    for name in names:
        if name not in split_of:
            repairs.add('frames in no list left out', name)
    rule = f'lists {", ".join(path.name for path in paths.values())}'
    return (split_of, rule) if 'val' in paths else own_validation(split_of, rule, choices)


def own_validation(split_of: dict[str, str], rule: str, choices: Choices) -> tuple[dict[str, str], str]:
    """Take frames to validate with from those that a publisher gives to train on; return the splits, and the rule."""
    training = [name for name, split in split_of.items() if split == 'train']
    if not choices.val or not training:
        return split_of, rule
    groups = matched(training, choices.group) if choices.group else series(training)
    rule += f'; val is ours: {choices.val:.3g} of train, whole series where names tell them, seed {choices.seed}'
    return split_of | split_by_group(groups, {'val': choices.val}, choices.seed), rule
