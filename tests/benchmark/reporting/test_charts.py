"""Axes of the charts: round numbers that lie inside and differ from one another."""

import re
from itertools import pairwise

import pytest

from vasomim.benchmark.reporting.charts import curves, intervals, ticks


@pytest.mark.parametrize(
    ('low', 'high'), [(0.0, 1.0), (1.0771, 1.0783), (61.23, 64.9), (-3.0, 250.0), (0.88, 3.12), (99.0, 101.0)]
)
def test_ticks_are_round_inside_and_distinct(low, high):
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 and float(label) == pytest.approx(value) for value, label in found)
    assert len({label for _, label in found}) == len(found)
    steps = {round(second[0] - first[0], 9) for first, second in pairwise(found)}
    assert len(steps) == 1


def test_an_interval_may_end_at_zero():
    page = intervals('DSC', [('one', 0.5, 0.0, 1.0), ('other', 0.5, 0.25, 1.0)], 100.0)
    ends = [float(x) for x in re.findall(r'class="bar" x1="([0-9.]+)"', page)]
    middle = [float(x) for x in re.findall(r'circle cx="([0-9.]+)"', page)]
    assert ends[0] < ends[1] < middle[0] and middle[0] - ends[0] == pytest.approx(2 * (middle[1] - ends[1]), abs=0.2)


def test_epochs_are_whole_numbers():
    assert [label for _, label in ticks(0.88, 3.12, whole=True)] == ['1', '2', '3']
    page = curves('loss', {'a': [(1, 1.0781), (2, 1.0776), (3, 1.0774)]}, 1.0, 'epoch')
    assert '>2<' in page and '>1.44<' not in page


def test_no_two_of_many_lines_look_alike():
    page = curves('DSC', {str(line): [(1, line), (2, line + 1)] for line in range(12)}, 1.0, 'epoch')
    looks = re.findall(r'<polyline (class="[^"]+" stroke-dasharray="[^"]*")', page)
    assert len(looks) == 24 and len(set(looks)) == 12


def test_a_line_without_points_is_not_in_the_legend_and_single_points_make_no_chart():
    page = curves('DSC', {'run': [(10, 0.5), (100, 0.6)], 'not run': []}, 100.0, '% of the labels')
    assert page.count('<polyline') == 2 and 'not run' not in page and 'run ends at 60' in page
    assert curves('DSC', {'a': [(3, 0.5)], 'b': [(3, 0.6)], 'c': []}, 100.0, 'epoch') == curves('', {}, 1.0, '') == ''
