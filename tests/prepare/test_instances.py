"""Objects of COCO files: what is repaired, what is refused, and boxes that were turned."""

from __future__ import annotations

import cmath
import math

import numpy as np
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


def turned(left: float, top: float, wide: float, high: float, degrees: float) -> tuple[float, float, float, float]:
    """The box around a turned one, by its corners as complex numbers."""
    center = complex(left + wide / 2, top + high / 2)
    half = [complex(x * wide / 2, y * high / 2) for x in (-1, 1) for y in (-1, 1)]
    corners = [center + each * cmath.exp(1j * math.radians(degrees)) for each in half]
    x, y = [each.real for each in corners], [each.imag for each in corners]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


TURN = 'boxes that are turned: the box around each taken'


@pytest.mark.parametrize('degrees', [30, 90.0, '45.5', 210, -60])
@pytest.mark.parametrize('outline', [[], [[30, 20, 50, 20, 50, 30, 30, 30]]])
def test_the_box_around_a_turned_one_is_taken(degrees, outline):
    """As CVAT writes them: the box as it was before, the turn about its center beside it."""
    entry = {'bbox': [30, 20, 20, 10], 'segmentation': outline, 'attributes': {'rotation': degrees, 'occluded': False}}
    repairs = Repairs()
    instance = read_instance(entry, 1, 100, 100, 'a.json annotation 7', repairs, painted=False)
    expected = turned(30, 20, 20, 10, float(degrees))
    assert instance.box == pytest.approx(expected)
    assert repairs.places == {TURN: ['a.json annotation 7']}
    for polygon in instance.polygons:  # No more than the box itself: it is turned with it.
        assert (*polygon.min(0), *np.ptp(polygon, axis=0)) == pytest.approx(expected)


def test_a_quarter_turn_by_hand():
    entry = {'bbox': [30, 20, 20, 10], 'attributes': {'rotation': 90}}
    assert read_instance(entry, 1, 100, 100, 'here', Repairs()).box == (35, 15, 10, 20)


@pytest.mark.parametrize('attributes', [None, [], {}, {'rotation': 0}, {'rotation': 0.0}, {'rotation': None}])
def test_boxes_that_are_not_turned_stay(attributes):
    repairs = Repairs()
    entry = {'bbox': [30, 20, 20, 10], 'attributes': attributes, 'rotation': 0}
    assert read_instance(entry, 1, 100, 100, 'here', repairs).box == (30, 20, 20, 10)
    assert not repairs.places


@pytest.mark.parametrize(
    'entry',
    [
        {'attributes': {'rotation': 'much'}},
        {'attributes': {'rotation': [30]}},
        {'attributes': {'rotation': 'nan'}},
        {'attributes': {'rotation': 10**400}},
        {'rotation': 30},  # About which point is not known.
        {'angle': 0.5},
    ],
)
def test_turns_that_cannot_be_understood_are_errors(entry):
    with pytest.raises(DatasetError, match='annotation 7'):
        read_instance({'bbox': [30, 20, 20, 10], **entry}, 1, 100, 100, 'annotation 7', Repairs())


@pytest.mark.parametrize(
    'segmentation',
    [
        [[2, 2, 6, 6]],
        [[]],
        {'counts': [1, 2], 'size': [100, 100]},
        {'counts': 'abc', 'size': [100, 100]},
        {},
        [],
        None,
        [2, 2, 6, 2, 6, 6],
        [[[2, 2], [6, 2], [6, 6]]],
        [['x', 2, 6, 2, 6, 6]],
        'none',
    ],
)
def test_a_sound_box_is_enough_where_nothing_is_painted(segmentation):
    entry = {'bbox': ['2', '2', '4', '4'], 'segmentation': segmentation}
    assert read_instance(entry, 1, 10, 10, 'here', Repairs(), painted=False).box == (2, 2, 4, 4)


@pytest.mark.parametrize('box', [[10**400, 1, 2, 2], ['inf', 1, 2, 2], {'x': 1}, 'abcd', [[1, 2], [3, 4]], True])
def test_boxes_that_are_no_four_numbers_are_errors(box):
    with pytest.raises(DatasetError, match='annotation 7'):
        read_instance({'bbox': box}, 1, 10, 10, 'annotation 7', Repairs(), painted=False)
