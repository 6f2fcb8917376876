"""Angiograms with their anatomy maps: the merged XA-170K, and any folder of frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from vasomim.anatomy import FILTERS
from vasomim.data.collate import collate_angiograms
from vasomim.data.splits import SUBSETS, choose_subset, restrict
from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.frames.images import read_grey
from vasomim.frames.layout import (
    ANATOMY_SUFFIX,
    SOURCES,
    existing_folder,
    list_folder,
    map_names,
    merged_sources,
    source_folders,
    unread_line,
    walk,
)
from vasomim.frames.names import other_spellings
from vasomim.registry import DATASETS

SKIP = 'train_dataloader.dataset.skip_corrupt=True val_dataloader.dataset.skip_corrupt=True'
ANATOMY = ('precomputed', 'on_the_fly', 'none')


class AngiogramDataset(BaseDataset):
    """Frames that the pipeline loads, crops and packs.

    What the pipeline starts from: ``img_path``, ``sample_idx``, ``skipped`` (paths of the corrupt frames in whose place
    this one stands) and either ``anatomy_path`` (a stored map), ``anatomy_filter`` (extract while loading) or neither.

    Args:
        data_root: Folder of the data.
        split: Text file with the names of the frames to use, relative to ``data_root``, one a line; None: all.
        subset: 'train', 'held_out', or 'all' for both.
        held_out: Share of the frames of each source that is held out, in (0, 1): the last ones, whole cine series.
        skip_corrupt: Whether the next frame takes the place of one that cannot be read; an error otherwise.
        pipeline: Transforms, or their configs.
        indices: Number of the first frames to use, or their places; None: all.
        serialize_data: Whether the list of frames is kept as bytes, which workers share.
        lazy_init: Whether the folders are looked at on first use only.

    Raises:
        DatasetError: If folders, frames, maps or names of the split are missing.
        ConfigError: If an option is not one of its choices.
    """

    collate = staticmethod(collate_angiograms)  # How a loader of this project's runner makes batches of the items.

    def __init__(
        self,
        data_root: str | Path,
        split: str | Path | None = None,
        subset: str = 'all',
        held_out: float = 0.05,
        skip_corrupt: bool = False,
        pipeline: Sequence = (),
        indices: int | Sequence[int] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
    ) -> None:
        name = type(self).__name__
        check_choice(name, 'subset', subset, SUBSETS)
        if not 0 < held_out < 1:
            raise ConfigError(f'{name}.held_out', f'{held_out} is no share.', 'Set it between 0 and 1, such as 0.05.')
        self.split = split
        self.subset = subset
        self.held_out = held_out
        self.skip_corrupt = skip_corrupt
        self.unread: list[str] = []  # Pictures and cines beside the frames that are not read.
        super().__init__(
            ann_file='',
            data_root=str(Path(data_root).expanduser()),
            pipeline=pipeline,
            indices=indices,
            serialize_data=serialize_data,
            lazy_init=lazy_init,
        )

    def find_frames(self) -> dict[str, list[str]]:
        """List the frames, relative to ``data_root``, by source."""
        raise NotImplementedError

    def other_frames(self) -> Collection[str]:
        """Return frames that a split may list although they are not used, and that are no files."""
        return ()

    def describe_anatomy(self, source: str, names: list[str]) -> list[dict[str, str]]:
        """Return for each frame of a source its ``anatomy_path``, ``anatomy_filter`` or nothing."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict[str, str]]:
        """List the frames of the split and subset with their anatomy; mmengine calls this."""
        found = self.find_frames()
        if self.split is not None:
            found = restrict(found, self.split, self.data_root, self.other_frames())
        data_list = []
        for source, names in found.items():
            chosen = choose_subset(names, self.subset, self.held_out)
            for name, anatomy in zip(chosen, self.describe_anatomy(source, chosen), strict=True):
                data_list.append({'img_path': os.path.join(self.data_root, name), **anatomy})
        if not data_list:
            raise DatasetError(
                self.data_root,
                f"no frame is left for subset '{self.subset}'.",
                f'Use more frames, or change held_out, which is {self.held_out}.',
            )
        return data_list

    @property
    def gives_anatomy(self) -> bool:
        """Whether the pipeline starts from a stored map, or from a filter to extract one with."""
        return not {'anatomy', 'anatomy_path', 'anatomy_filter'}.isdisjoint(self.get_data_info(0))

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on a frame, or on the next one that can be read if corrupt frames are skipped.

        Raises:
            DatasetError: If the frame is corrupt and not skipped, all of them are, or an anatomy map is wrong.
            IndexError: If there is no such frame, which also ends a plain loop over the dataset.
        """
        if not -len(self) <= idx < len(self):
            raise IndexError(f'Frame {idx} of {len(self)}.')
        skipped: list[str] = []
        for step in range(len(self)):
            info = self.get_data_info((idx + step) % len(self))
            try:
                return self.pipeline({**info, 'skipped': skipped})
            except DatasetError as error:
                if str(error.where) != info['img_path']:  # The frame is sound; its anatomy map is at fault.
                    raise
                if not os.path.isdir(self.data_root):  # An unmounted disk is no corrupt frame.
                    cure = 'Mount it again; `vasomim train ... --resume` then continues from the last checkpoint.'
                    raise DatasetError(self.data_root, 'this folder is gone.', cure) from error
                if not self.skip_corrupt:
                    cure = f'{error.cure} Or let the next frame take its place: --cfg-options {SKIP}'
                    raise DatasetError(error.where, error.what, cure) from error
                skipped.append(info['img_path'])
        raise DatasetError(
            self.data_root,
            f'none of the {len(self)} frames can be read.',
            'Without skip_corrupt the error names what is wrong with the first of them.',
        )

    def extra_repr(self) -> list[str]:
        """Describe the dataset in a log."""
        lines = [f'Root: \t{self.data_root}', f'Subset: \t{self.subset}, held out {self.held_out:g}']
        return [*lines, unread_line(self.unread)] if self.unread else lines


@DATASETS.register_module()
class XA170K(AngiogramDataset):
    """XA-170K as published: ``<root>/<source>/*.png``, and maps of the same names in ``<root>/<source>_frangi/``.

    Args:
        data_root: Folder of the sources.
        sources: Names of the folders to use; None: all that hold frames, the published ones first.
        anatomy: 'precomputed', 'on_the_fly' (extracted from each frame as it is loaded, some 20 ms) or 'none'.
        anatomy_suffix: What the name of a folder with maps adds to that of its frames.
        filter: Which filter extracts on the fly, of :data:`vasomim.anatomy.FILTERS`.
        **kwargs: See :class:`AngiogramDataset`.

    Source: arXiv 2602.11536.
    """

    def __init__(
        self,
        data_root: str | Path,
        sources: str | Sequence[str] | None = None,
        anatomy: str = 'precomputed',
        anatomy_suffix: str = ANATOMY_SUFFIX,
        filter: str = 'sato',
        **kwargs: Any,
    ) -> None:
        check_choice('XA170K', 'anatomy', anatomy, ANATOMY)
        check_choice('XA170K', 'filter', filter, FILTERS)
        self.sources = (sources,) if isinstance(sources, str) else sources
        self.anatomy = anatomy
        self.anatomy_suffix = anatomy_suffix
        self.filter = filter
        super().__init__(data_root, **kwargs)

    def find_frames(self) -> dict[str, list[str]]:
        """List the frames of each source.

        Raises:
            DatasetError: If a source is missing or holds no frames.
        """
        root = existing_folder(self.data_root)
        folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
        sources = self.sources
        if sources is None:
            find = source_folders if set(SOURCES) & set(folders) else merged_sources
            sources = find(root, self.anatomy_suffix)
        here = f'Here are: {", ".join(folders) or "no folders"}.'
        if not sources:
            cure = f'{here} Name sources=[...] where none is called {", ".join(SOURCES)}, and not all have maps.'
            raise DatasetError(root, 'no source to read.', cure)
        for name in sources:
            if name not in folders:
                hint = did_you_mean(name, {*folders, *SOURCES})
                raise DatasetError(root, f"there is no source '{name}'.{hint}", here)
        found = {source: list_folder(root / source) for source in sources}
        self.unread = [f'{source}/{name}' for source, listing in found.items() for name in listing.unread]
        return {source: [f'{source}/{name}' for name in listing.images] for source, listing in found.items()}

    def describe_anatomy(self, source: str, names: list[str]) -> list[dict[str, str]]:
        """Find the maps of a source beside its frames."""
        if self.anatomy == 'none':
            return [{} for _ in names]
        if self.anatomy == 'on_the_fly':
            return [{'anatomy_filter': self.filter} for _ in names]
        folder = f'{source}{self.anatomy_suffix}'
        maps = [f'{folder}/{name.partition("/")[2]}' for name in names]
        frames = Path(self.data_root, source)
        cure = (
            f'`vasomim extract {frames} {frames}{self.anatomy_suffix}` makes them; `sources`, an option of the dataset '
            'and of `vasomim pack`, names what is read in place of all.'
        )
        return find_maps(self.data_root, folder, maps, [os.path.join(self.data_root, name) for name in names], cure)


@DATASETS.register_module()
class AngiogramFolder(AngiogramDataset):
    """Any folder of frames, in sub-folders or not.

    Args:
        data_root: Folder of the frames.
        anatomy_root: Folder with a map for each frame: the same path, as PNG. None: extract while loading.
        filter: Which filter extracts while loading, of :data:`vasomim.anatomy.FILTERS`; None: no anatomy.
        **kwargs: See :class:`AngiogramDataset`.
    """

    def __init__(
        self,
        data_root: str | Path,
        anatomy_root: str | Path | None = None,
        filter: str | None = 'sato',
        **kwargs: Any,
    ) -> None:
        if filter is not None:
            check_choice('AngiogramFolder', 'filter', filter, FILTERS)
        self.anatomy_root = None if anatomy_root is None else str(Path(anatomy_root).expanduser())
        self.filter = filter
        super().__init__(data_root, **kwargs)

    def find_frames(self) -> dict[str, list[str]]:
        """List the frames of the folder."""
        found = list_folder(self.data_root, without=self.anatomy_root)
        self.unread = found.unread
        return {'.': found.images}

    def describe_anatomy(self, source: str, names: list[str]) -> list[dict[str, str]]:
        """Find the maps in ``anatomy_root``."""
        if self.anatomy_root is not None:
            cure = f'`vasomim extract {self.data_root} {self.anatomy_root}` makes them.'
            frames = [os.path.join(self.data_root, name) for name in names]
            return find_maps(self.anatomy_root, '.', names, frames, cure)
        return [{'anatomy_filter': self.filter} if self.filter else {} for _ in names]


def find_maps(root: str, folder: str, names: list[str], frames: list[str], cure: str) -> list[dict[str, str]]:
    """Return the ``anatomy_path`` of each frame.

    Only a frame that can be read must have a map: no map can be made of another, which its reader skips or reports. A
    map whose name has its accents in another spelling than the frame's, as some archives leave them, is its map too.

    Args:
        root: Folder that the names are relative to.
        folder: Folder in it that holds the maps.
        names: The maps, named with the endings of their frames.
        frames: The frames' files.
        cure: How to get maps.

    Raises:
        DatasetError: If the folder or maps are missing.
    """
    where = Path(root, folder)
    if not where.is_dir():
        raise DatasetError(where, 'this folder of anatomy maps does not exist.', cure)
    targets = list(map_names(names, root).values())
    absent = [name for name in targets if not name.isascii() and not os.path.isfile(os.path.join(root, name))]
    if absent:
        prefix = '' if folder == '.' else f'{folder}/'
        spelled = other_spellings(absent, {prefix + name for name in walk(where, '')}.difference(targets))
        targets = [spelled.get(name, name) for name in targets]
    paths = [os.path.join(root, target) for target in targets]
    missing = [(path, frame) for path, frame in zip(paths, frames, strict=True) if not os.path.isfile(path)]
    for path, frame in missing:
        if is_readable(frame):
            what = f'{len(missing)} of {len(paths)} frames have no anatomy map (first: {path}).'
            raise DatasetError(where, what, cure)
    return [{'anatomy_path': path} for path in paths]


def is_readable(frame: str) -> bool:
    """Return whether a frame can be decoded."""
    try:
        read_grey(frame)
    except DatasetError:
        return False
    return True


def check_choice(owner: str, option: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is not among the choices.

    Raises:
        ConfigError: With the choice that resembles it.
    """
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise ConfigError(f'{owner}.{option}', f'{value!r} is unknown.{hint}', f'Choose from {", ".join(choices)}.')
