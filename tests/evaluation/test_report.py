"""Figures of a set, against means taken by hand, and the files that keep every image."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from shapes import vessels

from vasomim.evaluation import cl_dice, dice, hausdorff95, measure_case, report, vessel_width, write_cases
from vasomim.evaluation.cases import short_names

EMPTY = np.zeros((48, 48), int)
NAMES = ('vessel',)


def binary_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    return [(vessels(seed, 48, lines=2, shift=1), vessels(seed, 48)) for seed in range(5)]


def binary_cases(pairs, **settings):
    settings = {'measures': ('DSC', 'clDice', 'HD95'), **settings}
    return [measure_case(f'{index}.png', *pair, **settings) for index, pair in enumerate(pairs)]


def test_means_over_images_and_over_all_pixels():
    pairs = binary_pairs()
    figures = report(binary_cases(pairs, spacing=0.25), NAMES)
    assert figures['images'] == 5
    for key, function in (('DSC', dice), ('clDice', cl_dice), ('HD95', lambda *pair: hausdorff95(*pair, 0.25))):
        assert figures[key] == pytest.approx(np.mean([function(*pair) for pair in pairs]))
    together = [np.concatenate(side) for side in zip(*pairs, strict=True)]
    assert figures['DSC/pooled'] == pytest.approx(dice(*together))
    assert figures['DSC/pooled'] != pytest.approx(figures['DSC'], abs=1e-3)
    assert (figures['HD95/images'], figures['HD95/undefined']) == (5, 0)


def test_empty_truths_and_predictions_count_as_defined():
    vessel = vessels(0, 48).astype(int)
    cases = binary_cases([(EMPTY, EMPTY), (EMPTY, vessel), (vessel, EMPTY), (vessel, vessel)])
    assert [case.value('DSC') for case in cases] == [1, 0, 0, 1]
    assert [case.value('clDice') for case in cases] == [1, 0, 0, 1]
    figures = report(cases, NAMES)
    assert (figures['empty_truth'], figures['empty_prediction']) == (2, 2)
    assert figures['DSC'] == figures['clDice'] == 0.5
    assert (figures['HD95'], figures['HD95/images'], figures['HD95/undefined']) == (0, 2, 2)


def test_a_set_of_misses_has_no_hd95():
    figures = report(binary_cases([(EMPTY, vessels(0, 48))]), NAMES)
    assert math.isnan(figures['HD95'])
    assert figures['HD95/undefined'] == 1
    assert figures['DSC'] == 0


def classes_by_hand():
    """Two images and four classes; the last is nowhere."""
    first = np.array([[1, 1, 2, 2, 0, 0]]), np.array([[1, 1, 2, 0, 0, 0]])  # 1: 1, 2: 2/3
    second = np.array([[1, 0, 0, 3, 3, 0]]), np.array([[1, 1, 1, 0, 0, 0]])  # 1: 1/2, 3: 0
    return [measure_case(name, *pair, num_classes=4) for name, pair in (('a', first), ('b', second))]


def test_classes_are_averaged_within_the_image_first():
    cases = classes_by_hand()
    assert cases[0].value('DSC') == pytest.approx((1 + 2 / 3) / 2)
    assert cases[1].value('DSC') == pytest.approx((1 / 2 + 0) / 2)
    figures = report(cases, ('1', '2', '9a', '16'))
    assert figures['DSC'] == pytest.approx((5 / 6 + 1 / 4) / 2)
    assert figures['DSC/class/1'] == pytest.approx(3 / 4)
    assert figures['DSC/class/2'] == pytest.approx(2 / 3)
    assert figures['DSC/class/9a'] == 0
    assert math.isnan(figures['DSC/class/16'])
    assert [figures[f'DSC/class/{name}/images'] for name in ('1', '2', '9a', '16')] == [2, 1, 1, 0]
    assert figures['DSC/class_mean'] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert figures['DSC/class_mean/classes'] == 3
    # 1: 2 x 3 of 3 + 5 pixels; 2: 2 x 1 of 2 + 1; 3: none of 2.
    assert figures['DSC/pooled'] == pytest.approx((6 / 8 + 2 / 3 + 0) / 3)


def test_an_image_without_any_class_agrees_on_nothing():
    case = measure_case('a', EMPTY, EMPTY, 3, ('DSC', 'clDice', 'HD95'))
    assert [case.value(measure) for measure in case.scores] == [1, 1, 0]


def test_hd95_of_classes_leaves_out_and_counts_those_on_one_side():
    prediction, truth = EMPTY.copy(), EMPTY.copy()
    prediction[3, 3] = truth[3, 8] = 1
    truth[30, 30] = 2
    case = measure_case('a', prediction, truth, 2, ('HD95', 'clDice'))
    assert case.value('HD95') == 5
    assert case.undefined('HD95') == 1
    assert case.value('clDice') == 0
    assert report([case], ('1', '2'))['HD95/undefined'] == 1


def test_images_in_thirds_by_mean_width_and_by_side():
    pairs = [*binary_pairs(), (vessels(7, 48), vessels(8, 48)), (EMPTY, EMPTY)]
    sides = ['left', 'left', 'right', None, 'right', 'right', None]
    cases = [
        measure_case(str(index), *pair, subgroups=('mean_width', 'side'), side=side)
        for index, (pair, side) in enumerate(zip(pairs, sides, strict=True))
    ]
    figures = report(cases, NAMES, ('mean_width', 'side'))
    order = sorted(range(6), key=lambda index: vessel_width(pairs[index][1]).mean())
    for name, members in zip(('thin', 'medium', 'wide'), (order[:2], order[2:4], order[4:]), strict=True):
        assert figures[f'DSC/mean_width/{name}'] == pytest.approx(np.mean([dice(*pairs[index]) for index in members]))
        assert figures[f'DSC/mean_width/{name}/images'] == 2
    assert figures['DSC/mean_width/no_vessel/images'] == 1
    for name, members in (('left', [0, 1]), ('right', [2, 4, 5]), ('unknown', [3, 6])):
        assert figures[f'DSC/side/{name}'] == pytest.approx(np.mean([dice(*pairs[index]) for index in members]))
        assert figures[f'DSC/side/{name}/images'] == len(members)


def bars(*widths: int, found: int = 0) -> np.ndarray:
    """Vessels of these widths, one below the other, the first ``found`` of which stay."""
    mask = np.zeros((40 * len(widths), 60), int)
    for index, width in enumerate(widths[: found or None]):
        mask[40 * index + 10 : 40 * index + 10 + width, 20:40] = 1
    return mask


def test_pixels_in_thirds_by_local_width():
    truth = bars(2, 6, 12)
    other = bars(2, 2, 2)
    cases = [
        measure_case('a', bars(2, 6, 12, found=1), truth, measures=('DSC', 'clDice'), subgroups=('width',)),
        measure_case('b', bars(2, 2, 2, found=2), other, measures=('DSC', 'clDice'), subgroups=('width',)),
    ]
    figures = report(cases, NAMES, ('width',))
    # Two thirds of the centerline are 2 pixels wide, so both cuts lie there: nothing is of medium width.
    assert figures['width/low_cut'] == figures['width/high_cut'] == 2
    thin = [2 * 40 / (40 + 40), 2 * 80 / (80 + 120)]
    rest = cases[0].local['width'].overlap[0].tolist()
    assert rest[:2] == [40, 40]
    thin[0] = 2 * 40 / (40 + rest[2])  # Corners of the wide bars may be as thin as this.
    assert figures['DSC/width/thin'] == pytest.approx(np.mean(thin))
    assert figures['DSC/width/thin/images'] == 2
    assert figures['DSC/width/thin/pooled'] == pytest.approx(2 * 120 / (40 + rest[2] + 80 + 120))
    assert figures['DSC/width/medium/images'] == 0
    assert math.isnan(figures['DSC/width/medium'])
    assert math.isnan(figures['clDice/width/medium/pooled'])
    assert figures['DSC/width/wide'] == figures['clDice/width/wide'] == 0
    assert figures['DSC/width/wide/images'] == 1


def test_lesions_in_thirds_by_area():
    sizes = [2, 4, 8, 3, 5, 9]
    truths = [bars(*sizes[:3]), bars(*sizes[3:])]
    found = [bars(*sizes[:3], found=2), bars(*sizes[3:], found=1)]
    cases = [measure_case(str(index), found[index], truths[index], subgroups=('lesion_size',)) for index in (0, 1)]
    figures = report(cases, NAMES, ('lesion_size',))
    assert (figures['lesion_size/low_cut'], figures['lesion_size/high_cut']) == (3 * 20, 5 * 20)
    assert figures['DSC/lesion_size/small'] == 1
    assert figures['DSC/lesion_size/medium'] == 0.5
    assert figures['DSC/lesion_size/medium/pooled'] == pytest.approx(2 * 80 / (80 + 80 + 100))
    assert figures['DSC/lesion_size/large'] == 0
    assert [figures[f'DSC/lesion_size/{name}/images'] for name in ('small', 'medium', 'large')] == [2, 2, 2]


def test_no_hd95_of_parts():
    figures = report(binary_cases(binary_pairs()[:1], subgroups=('width',)), NAMES, ('width',))
    assert not [key for key in figures if key.startswith('HD95/width')]


def test_pixels_of_several_classes_are_not_divided():
    with pytest.raises(ValueError, match='Subgroup width divides the pixels of one class; there are 3'):
        measure_case('a', EMPTY, EMPTY, 3, subgroups=('width',))


def test_csv_holds_a_row_for_each_image(tmp_path):
    pairs = [*binary_pairs()[:2], (EMPTY, vessels(0, 48))]
    cases = binary_cases(pairs, side='left')
    path = tmp_path / 'new' / 'cases.csv'
    write_cases(path, cases, NAMES, {})
    rows = list(csv.DictReader(path.open()))
    assert [row['image'] for row in rows] == ['0.png', '1.png', '2.png']
    assert [float(row['DSC']) for row in rows] == [dice(*pair) for pair in pairs]
    assert [float(row['clDice']) for row in rows] == [cl_dice(*pair) for pair in pairs]
    assert float(rows[1]['HD95']) == hausdorff95(*pairs[1])
    assert rows[2]['HD95'] == ''
    assert rows[2]['predicted_pixels'] == '0'
    assert int(rows[0]['true_pixels']) == pairs[0][1].sum()
    assert rows[0]['side'] == 'left'
    assert [path.name for path in path.parent.iterdir()] == ['cases.csv']


def test_json_holds_the_summary_and_null_for_what_is_undefined(tmp_path):
    cases = classes_by_hand()
    names = ('1', '2', '9a', '16')
    path = tmp_path / 'cases.json'
    path.write_text('an older one')
    write_cases(path, cases, names, report(cases, names))
    content = json.loads(path.read_text())
    assert content['summary']['DSC'] == pytest.approx((5 / 6 + 1 / 4) / 2)
    assert content['summary']['DSC/class/16'] is None
    first = content['cases'][0]
    assert first['image'] == 'a'
    assert first['DSC/class/2'] == pytest.approx(2 / 3)
    assert first['DSC/class/9a'] is None
    assert first['side'] is None


def test_other_endings_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r'written as \.csv or \.json'):
        write_cases(tmp_path / 'cases.xlsx', classes_by_hand(), ('1', '2', '3', '4'), {})


def test_images_are_named_below_the_folder_that_holds_them_all():
    assert short_names(['/a/b/images/1.png', '/a/b/images/2.png']) == ['1.png', '2.png']
    assert short_names(['/a/b/p1/1.png', '/a/b/p2/x/1.png']) == ['p1/1.png', 'p2/x/1.png']
    assert short_names(['1.png', 'x/2.png']) == ['1.png', 'x/2.png']
    assert short_names(['/a/1.png']) == ['1.png'] and short_names([]) == []
