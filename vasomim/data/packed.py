"""Angiograms that ``vasomim pack`` has packed: the frames and anatomy of the folders, without opening or decoding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from vasomim.data.datasets import AngiogramDataset, check_choice
from vasomim.data.pack_format import AGAIN, PackedFrame, PackedFrames, broken_shards, read_index, shard_name
from vasomim.errors import ConfigError, DatasetError, did_you_mean
from vasomim.frames.layout import series_key
from vasomim.registry import DATASETS


@DATASETS.register_module()
class PackedAngiograms(AngiogramDataset):
    """A packed set: names, subsets and items are those of the folder that was packed.

    The pipeline starts with ``img``, a view of the packed frame, and ``anatomy``, a :class:`PackedMask`; crops look at
    their own rows only. ``img_path`` is the name below ``data_root``, where no such file lies.

    Args:
        data_root: The packed set.
        sources: As in :class:`XA170K`: which sources to use; None: all that were packed.
        anatomy: 'precomputed', or 'none' for methods that go without.
        **kwargs: See :class:`AngiogramDataset`.

    Raises:
        DatasetError: If the set is damaged as far as sizes tell, or its packing did not come to its end.
    """

    def __init__(
        self,
        data_root: str | Path,
        sources: str | Sequence[str] | None = None,
        anatomy: str = 'precomputed',
        **kwargs: Any,
    ) -> None:
        check_choice('PackedAngiograms', 'anatomy', anatomy, ('precomputed', 'none'))
        self.sources = (sources,) if isinstance(sources, str) else sources
        self.anatomy = anatomy
        self.left_out = 0
        super().__init__(data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the frames of the split and subset with their places."""
        root = Path(self.data_root)
        self.index = read_index(root)
        for number, what in broken_shards(root, self.index).items():
            raise DatasetError(root / shard_name(number), what, AGAIN)
        if not self.index.complete:
            failed = len(self.index.failed)
            what = f'{failed} frames could not be packed.' if failed else 'the packing was stopped.'
            cure = '`vasomim pack SRC DST` continues it; --skip-corrupt leaves out what cannot be read.'
            raise DatasetError(root, f'this packed set is not complete: {what}', cure)
        if self.anatomy == 'precomputed' and not self.index.anatomy:
            cure = "Pack the frames with their maps, or set anatomy='none'."
            raise DatasetError(root, 'its frames were packed without anatomy.', cure)
        self.frames = PackedFrames(root, self.index.anatomy)
        self.places = {frame.name: frame for frame in self.index.frames}
        listed = super().load_data_list()
        found: list[dict[str, Any]] = [info for info in listed if info['packed'] is not None]
        self.left_out = len(listed) - len(found)
        del self.index, self.places  # The list of frames says it all.
        if not found:
            raise DatasetError(root, 'none of the frames asked for could be packed.', 'Mend them and pack again.')
        return found

    def find_frames(self) -> dict[str, list[str]]:
        """List the frames by source; those that could not be packed too, so that the same ones are held out.

        Raises:
            DatasetError: If a source is not there.
            ConfigError: If sources are named where there are none.
        """
        names = [*self.places, *self.index.failed]
        if self.index.layout == 'folder':
            if self.sources is not None:
                raise ConfigError('PackedAngiograms.sources', 'a folder was packed, not sources.', 'Leave it out.')
            return {'.': sorted(names, key=series_key)}
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(name.partition('/')[0], []).append(name)
        for source in self.sources or ():
            if source not in found:
                what = f"there is no source '{source}'.{did_you_mean(source, found)}"
                raise DatasetError(self.data_root, what, f'Packed are: {", ".join(found)}.')
        chosen = found if self.sources is None else self.sources
        return {
            source: sorted(found[source], key=lambda name: series_key(name[len(source) + 1 :])) for source in chosen
        }

    def other_frames(self) -> Collection[str]:
        """Return the frames of all sources."""
        return {*self.places, *self.index.failed}

    def describe_anatomy(self, source: str, names: list[str]) -> list[dict[str, Any]]:
        """Return for each frame its ``packed`` place; None: it could not be packed."""
        return [{'packed': place_of(self.places.get(name))} for name in names]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return what the pipeline starts from, the frame and its map included."""
        info = super().get_data_info(idx)
        info['img'], anatomy = self.frames.read(*info.pop('packed'))
        if anatomy is not None and self.anatomy != 'none':
            info['anatomy'] = anatomy
        return info

    def extra_repr(self) -> list[str]:
        """Describe the dataset in a log."""
        return [*super().extra_repr(), f'Left out as they could not be packed: \t{self.left_out}']


def place_of(frame: PackedFrame | None) -> tuple[int, int, int, int] | None:
    """Return height, width, shard and offset."""
    return None if frame is None else (frame.height, frame.width, frame.shard, frame.offset)
