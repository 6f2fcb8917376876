"""Segmentation sets in the prepared layout, for mmseg; importing registers them there.

Beside :class:`FolderSegmentation` there is a class for each published set with masks, such as ``ARCADEVessels``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasomim import compat

compat.prepare()

from mmcv.transforms import BaseTransform  # noqa: E402
from mmseg.datasets import BaseSegDataset  # noqa: E402
from mmseg.registry import DATASETS, TRANSFORMS  # noqa: E402

from vasomim.data.prepared_split import PreparedReader, make_readers  # noqa: E402
from vasomim.errors import DatasetError  # noqa: E402
from vasomim.files import read_json  # noqa: E402
from vasomim.frames.images import read_grey  # noqa: E402
from vasomim.frames.names import on_disk  # noqa: E402
from vasomim.prepare.prepared import SIDES, image_path, mask_path  # noqa: E402
from vasomim.prepare.published import PreparedSet  # noqa: E402


class PreparedSegmentation(PreparedReader, BaseSegDataset):
    """A split of a prepared set with masks.

    What the pipeline starts from: ``img_path``, ``seg_map_path`` (class indices, 0 = background), ``num_classes`` and,
    where the annotation tells, ``side``: 'left' or 'right' coronary tree.

    Args:
        data_root: Folder of the prepared set.
        split: 'train', 'val' or 'test'.
        label_fraction: Part of the split that is used, in (0, 1]; a smaller part lies in a larger one.
        seed: Of the choice of that part.
        exclude: File of frames to leave out, see :func:`vasomim.data.prepared_split.excluded_names`.
        pipeline: Transforms, or their configs.
        **kwargs: See ``mmengine.dataset.BaseDataset``.

    Raises:
        DatasetError: If ``data_root`` is not the prepared set that this class reads, or files are missing.
        ConfigError: If an option is out of range.
    """

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
            kwargs.setdefault('metainfo', {'classes': ('background', *classes)})
        self.num_classes = 1 + len(classes)
        super().__init__(data_root=str(self.root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the frames.

        Raises:
            DatasetError: If an image or a mask is missing, or the list of sides is damaged.
        """
        sides = self.root / SIDES
        side_of = read_json(sides, DatasetError, 'Prepare the set again.') if sides.is_file() else {}
        data_list = []
        for name in self.names:
            image, mask = on_disk(image_path(self.root, name)), on_disk(mask_path(self.root, name))
            for path in (image, mask):
                if not path.is_file():
                    raise DatasetError(path, 'this file of the split is missing.', 'Prepare the set again.')
            data_list.append(
                {
                    'img_path': str(image),
                    'seg_map_path': str(mask),
                    'num_classes': self.num_classes,
                    'label_map': self.label_map,
                    'reduce_zero_label': False,
                    'seg_fields': [],
                    **({'side': side_of[name]} if name in side_of else {}),
                }
            )
        return data_list


@DATASETS.register_module()
class FolderSegmentation(PreparedSegmentation):
    """Any prepared set with masks; its classes come from its ``dataset.json``."""


def metainfo(chosen: PreparedSet) -> dict[str, Any]:
    """Return the classes and colours of a published set for mmseg: the background comes first."""
    colours = {'palette': [[0, 0, 0], *map(list, chosen.palette)]} if chosen.palette else {}
    return {'classes': ('background', *chosen.classes), **colours}


globals().update(make_readers('mask_reader', PreparedSegmentation, DATASETS, metainfo))


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load a mask of class indices, and refuse what mmseg's own loader lets pass: other sizes and other values.

    Required keys: ``seg_map_path``, ``label_map``, ``num_classes`` and, if the image is loaded already, ``ori_shape``.
    Added keys: ``gt_seg_map`` uint8 (H, W) and its name in ``seg_fields``. An image of no data set stays as it is:
    ``mmseg.apis.inference_model`` leaves out no other loader than mmseg's own.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load the mask.

        Raises:
            DatasetError: If the mask is missing, damaged, of another size than its image, or holds a value that is no
                class.
        """
        if 'seg_fields' not in results:
            return results
        path = results.get('seg_map_path')
        if path is None:
            what = 'its data set names no mask for this image.'
            raise DatasetError(results.get('img_path', 'LoadMask'), what, 'Take a data set with masks.')
        mask = read_grey(path)
        shape = results.get('ori_shape')
        if shape is not None and mask.shape != tuple(shape[:2]):
            what = f'the mask is {mask.shape[1]} x {mask.shape[0]} pixels, its image {shape[1]} x {shape[0]}.'
            raise DatasetError(path, what, 'Prepare the set again: `vasomim prepare` finds the wrong pair.')
        if mask.max() >= results['num_classes']:
            what = f'the mask holds {mask.max()}; class indices are 0 to {results["num_classes"] - 1}.'
            raise DatasetError(path, what, 'Prepare the set again: it turns 0/255 and other grey values into classes.')
        if results.get('label_map'):
            table = np.arange(256, dtype=np.uint8)
            for old, new in results['label_map'].items():
                table[old] = new % 256  # -1, a class left out, is 255: ignored.
            mask = table[mask]
        results['gt_seg_map'] = mask
        results['seg_fields'].append('gt_seg_map')
        return results
