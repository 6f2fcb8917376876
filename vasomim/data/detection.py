"""Detection sets in the prepared layout, for mmdet; importing registers them there.

Beside :class:`FolderDetection` there is a class for each published set with boxes, such as ``DanilovStenosis``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vasomim import compat

compat.prepare()

from mmdet.datasets import CocoDataset  # noqa: E402
from mmdet.registry import DATASETS  # noqa: E402

from vasomim.data.prepared_split import PreparedReader, make_readers  # noqa: E402
from vasomim.errors import DatasetError, did_you_mean  # noqa: E402
from vasomim.frames.names import on_disk  # noqa: E402
from vasomim.prepare.coco import check_used, load_coco, wrong_boxes  # noqa: E402
from vasomim.prepare.prepared import boxes_path  # noqa: E402
from vasomim.prepare.published import PreparedSet  # noqa: E402


class PreparedDetection(PreparedReader, CocoDataset):
    """A split of a prepared set with boxes, read from its COCO file.

    Args:
        data_root: Folder of the prepared set.
        split: 'train', 'val' or 'test'.
        label_fraction: Part of the split that is used, in (0, 1]; a smaller part lies in a larger one. Leave it at 1
            for evaluation: mmdet's metric compares with all images of the file.
        seed: Of the choice of that part.
        exclude: File of frames to leave out, see :func:`vasomim.data.prepared_split.excluded_names`.
        pipeline: Transforms, or their configs.
        **kwargs: See ``mmdet.datasets.CocoDataset``.

    Raises:
        DatasetError: If ``data_root`` is not the prepared set that this class reads, files are missing, or the COCO
            file's categories are not the classes, which mmdet would report as a score of 0 or -1.
        ConfigError: If an option is out of range.
    """

    NEEDS = 'boxes'

    def __init__(
        self,
        data_root: str | Path,
        split: str = 'train',
        label_fraction: float = 1.0,
        seed: int = 0,
        exclude: str | Path | None = None,
        pipeline: Sequence = (),
        **kwargs: Any,
    ) -> None:
        classes = self.open(data_root, split, label_fraction, seed, exclude)
        if self.SET is None:
            kwargs.setdefault('metainfo', {'classes': classes})
        super().__init__(
            data_root=str(self.root),
            ann_file=boxes_path(Path(), split).name,
            data_prefix={'img': 'images'},
            pipeline=list(pipeline),
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the chosen frames with their boxes.

        Raises:
            DatasetError: If the categories are not the classes, the file does not list a frame of the split, or an
                image is missing.
        """
        path = Path(self.ann_file)
        content = load_coco(path)
        check_used(path, content)
        wrong = wrong_boxes(content)
        if wrong:
            what = f'{len(wrong)} boxes have no size, lie outside their image or belong to none (first: id {wrong[0]}).'
            raise DatasetError(path, what, 'Prepare the set again.')
        categories = [str(entry['name']) for entry in sorted(content['categories'], key=lambda entry: entry['id'])]
        for label in self.metainfo['classes']:
            if label not in categories:
                hint = did_you_mean(label, categories)
                what = f"there is no category '{label}' in it.{hint}"
                raise DatasetError(path, what, f'Its categories are {", ".join(categories)}; name classes like them.')
        wanted = set(self.names)
        found = [sample for sample in super().load_data_list() if Path(sample['img_path']).stem in wanted]
        if len(found) != len(wanted):
            missing = sorted(wanted - {Path(sample['img_path']).stem for sample in found})
            what = f'{len(missing)} frames of the split are not in it (first: {missing[0]}).'
            raise DatasetError(path, what, 'Prepare the set again.')
        for sample in found:
            sample['img_path'] = str(on_disk(Path(sample['img_path'])))
            if not Path(sample['img_path']).is_file():
                raise DatasetError(sample['img_path'], 'this image is missing.', 'Prepare the set again.')
        return found


@DATASETS.register_module()
class FolderDetection(PreparedDetection):
    """Any prepared set with boxes; its classes come from its ``dataset.json``."""


def metainfo(chosen: PreparedSet) -> dict[str, Any]:
    """Return the classes and colours of a published set for mmdet."""
    return {'classes': chosen.classes, **({'palette': list(chosen.palette)} if chosen.palette else {})}


globals().update(make_readers('box_reader', PreparedDetection, DATASETS, metainfo))
