"""Objects of COCO files: what is repaired, what is refused, and boxes that were turned."""

from __future__ import annotations

import pytest

from vasomim.errors import DatasetError
from vasomim.prepare.instances import read_instance
from vasomim.prepare.plan import Repairs

SQUARE = [2, 2, 6, 2, 6, 6, 2, 6]


@pytest.mark.parametrize(
    ('entry', 'box', 'kinds'),
    [
        ({'segmentation': [SQUARE], 'bbox': [2, 2, 4, 4]}, (2, 2, 4, 4), []),
        ({'segmentation': [SQUARE]}, (2, 2, 4, 4), ['boxes made again from their polygons']),
        (
            {'segmentation': [SQUARE], 'bbox': [2, 2, 0, 4]},
            (2, 2, 4, 4),
            ['boxes without a size', 'boxes made again from their polygons'],
        ),
        (
            {'segmentation': [SQUARE, [1, 1, 5, 5]], 'bbox': [2, 2, 4, 4]},
            (2, 2, 4, 4),
            ['polygons without an area left out'],
        ),
        (
            {'segmentation': [[1, 1, 5, 5, 9, 9]], 'bbox': [2, 2, 4, 4]},
            None,
            ['polygons without an area left out', 'instances without a usable polygon left out'],
        ),
        (  # On a line, but for rounding: (0.1 + 0.2) x 3 is not 0.9.
            {'segmentation': [[0.1, 0.2, 0.3, 0.6, 0.7, 1.4, 0.9, 1.8]]},
            None,
            ['polygons without an area left out', 'instances without a usable polygon left out'],
        ),
        ({'segmentation': [SQUARE], 'bbox': [5, 5, 4, 4]}, (2, 2, 4, 4), ['boxes made again from their polygons']),
        ({'segmentation': [SQUARE], 'bbox': [2, 2, 4, 5]}, (2, 2, 4, 5), []),
        (
            {'segmentation': [[20, 20, 30, 20, 30, 30]], 'bbox': [20, 20, 10, 10]},
            None,
            ['polygons outside the image left out', 'instances without a usable polygon left out'],
        ),
        (
            {'segmentation': [[6, 2, 14, 2, 14, 6, 6, 6]], 'bbox': [6, 2, 8, 4]},
            (6, 2, 4, 4),
            ["polygons cut at the image's edge", "boxes cut at the image's edge"],
        ),
        ({'bbox': [0, 0, 10.01, 5]}, (0, 0, 10, 5), []),  # Within the rounding of published coordinates.
        ({'bbox': [3, 3, -1, 5]}, None, ['boxes without a size', 'instances without a usable box left out']),
        ({'bbox': [3, 3, 0.5, 5]}, None, ['boxes thinner than a pixel', 'instances without a usable box left out']),
        ({'bbox': [11, 3, 5, 5]}, None, ['boxes outside the image', 'instances without a usable box left out']),
        (
            {'segmentation': [[*SQUARE, 7]], 'bbox': [2, 2, 4, 4]},
            (2, 2, 4, 4),
            ['polygons with an odd number of coordinates: the last one left out'],
        ),
    ],
)
def test_every_repair_is_counted(entry, box, kinds):
    repairs = Repairs()
    instance = read_instance(entry, 1, 10, 10, 'a.json annotation 7', repairs)
    assert (instance.box if instance else None) == (None if box is None else pytest.approx(box))
    assert repairs.places == {kind: ['a.json annotation 7'] for kind in kinds}


@pytest.mark.parametrize(
    'entry',
    [
        {'segmentation': {'counts': [1, 2], 'size': [10, 10]}},
        {'segmentation': [[1, 2, 3, 'x', 5, 6]]},
        {'segmentation': [[1, 2, 3, float('nan'), 5, 6]]},
        {'bbox': [1, 2, 3]},
    ],
)
def test_what_cannot_be_understood_is_an_error_that_names_the_annotation(entry):
    with pytest.raises(DatasetError, match='annotation 7'):
        read_instance(entry, 1, 10, 10, 'a.json annotation 7', Repairs())
