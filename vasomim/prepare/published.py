"""A published dataset as one object: how it is recognized, read, counted and simulated, and who reads it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from vasomim.errors import ConfigError, did_you_mean
from vasomim.prepare.plan import SPLITS, Plan
from vasomim.prepare.splitting import Choices
from vasomim.synthetic.layouts import BOOKKEEPING, Layout

PARTS = (*SPLITS, 'train and val', 'all')
CHOICES = tuple(each.name for each in fields(Choices))
FIELDS = 'See docs/extending.md for what a dataset says of itself.'

Report = Callable[[int, int], None]
"""Called with (files done, files in all)."""


@dataclass(frozen=True)
class PreparedSet:
    """A set that comes of a published dataset: most have one, ARCADE three.

    Attributes:
        name: As in its ``dataset.json`` and ``configs/downstream/NAME/``.
        about: A line on it, which describes its readers.
        classes: Names of the classes 1 to K.
        palette: Red, green and blue of each class; none: mmseg's or mmdet's own colours.
        mask_reader: Class that mmseg's configs name, in ``vasomim.data.segmentation``; '' without masks.
        box_reader: Class that mmdet's configs name, in ``vasomim.data.detection``; '' without boxes.
        frames: Published numbers of frames, of parts in ``PARTS``: 'all' where the published split cannot be had,
            'train and val' where val is ours.
        objects: Published numbers of annotated objects, of the same parts.
        series: Whether the names of frames tell their series.
        configs: Folder of its configs, which an error names: ``segmentation.py``, ``detection.py``; '' is
            ``vasomim::downstream/NAME``.

    Raises:
        ConfigError: If something is missing or wrong.
    """

    name: str
    about: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    mask_reader: str = ''
    box_reader: str = ''
    frames: Mapping[str, int] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
    series: bool = True
    configs: str = ''

    def __post_init__(self) -> None:
        """Refuse what the readers would stumble over."""
        where = f"set '{self.name}'"
        check_name(where, self.name)
        readers = [name for name in (self.mask_reader, self.box_reader) if name]
        parts = {*self.frames, *self.objects} - set(PARTS)
        for wrong, what in (
            (not self.classes or isinstance(self.classes, str), 'it names no classes.'),
            (self.palette and len(self.palette) != len(self.classes), 'its palette has not a colour for each class.'),
            (not readers, 'it has neither mask_reader nor box_reader.'),
            (not all(name.isidentifier() for name in readers), f'{readers} are no names of classes.'),
            (parts, f'its counts are of {sorted(parts)}; parts are {", ".join(PARTS)}.'),
        ):
            if wrong:
                raise ConfigError(where, what, FIELDS)


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset as its publishers offer it.

    Attributes:
        name: The word of ``vasomim prepare downstream NAME``.
        title: What a message calls it.
        layout: What lies where, for the help of the command.
        cure: What to do where a folder is not in that layout.
        recognize: Returns what a folder holds of it: its title, the name of a part that cannot be read alone, or ''.
        read: Reads its folder into a plan for each of its sets that is there, repairs included.
        sets: What comes of it.
        common: Whether anybody's labels may lie like this, so that ``prepare downstream folder`` reads them as well.
        options: What a user may choose: names of :class:`vasomim.prepare.splitting.Choices`.
        simulate: Its layout with simulated frames; None: there is none.
        exclusions: File of training frames that the readers leave out by ``exclude=NAME``; None: there is none.

    Raises:
        ConfigError: If something is missing or wrong.
    """

    name: str
    title: str
    layout: str
    cure: str
    recognize: Callable[[Path], str]
    read: Callable[[Path, Choices, Report | None], list[Plan]]
    sets: tuple[PreparedSet, ...]
    common: bool = False
    options: tuple[str, ...] = ('seed', 'val')
    simulate: Layout | None = None
    exclusions: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what commands would stumble over."""
        where = f"dataset '{self.name}'"
        check_name(where, self.name)
        for name in ('recognize', 'read', *(('simulate',) if self.simulate is not None else ())):
            if not callable(getattr(self, name)):
                raise ConfigError(where, f'its {name} is no function.', FIELDS)
        if not all(isinstance(each, PreparedSet) for each in self.sets):
            raise ConfigError(where, 'its sets are no PreparedSets.', FIELDS)
        for option in self.options:
            if option not in CHOICES:
                hint = did_you_mean(option, CHOICES)
                raise ConfigError(where, f"there is no option '{option}'.{hint}", f'Options are {", ".join(CHOICES)}.')

    def plans(self, root: Path, choices: Choices, report: Report | None = None) -> list[Plan]:
        """Read its folder.

        Raises:
            ConfigError: If what was read is none of its sets.
            DatasetError: As its ``read``.
        """
        plans = self.read(root, choices, report)
        announced = {each.name: each.classes for each in self.sets}
        for plan in plans if self.sets else ():
            if announced.get(plan.name) != plan.classes:
                what = f"its read gives a set '{plan.name}' of {plan.classes}; announced are {announced}."
                raise ConfigError(f"dataset '{self.name}'", what, 'Make its sets and its plans agree.')
        return plans


def check_name(where: str, name: str) -> None:
    """Refuse a name that is not a word of commands and folders.

    Raises:
        ConfigError: If it is not.
    """
    if not isinstance(name, str) or not name.isidentifier() or not name.islower():
        raise ConfigError(where, 'its name is not of lower-case letters, digits and _.', FIELDS)


def is_simulated(root: Path) -> bool:
    """Return whether a published folder holds simulated frames, so that published counts do not apply."""
    return (root / BOOKKEEPING).is_dir()
