"""Small charts as SVG text with titles and descriptions; colors come from the page, marks differ without them too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 460  # Small enough that its text can be read on a phone; labels stand above what they name.
LEFT, RIGHT = 12, 16
ROW = 42
MARKED = 12  # Points of a line up to which each gets a mark.
DASHES = ('', '6 3', '2 3', '8 3 2 3', '12 4', '4 4')


def svg(height: float, title: str, description: str, body: Sequence[str]) -> str:
    """Return a picture with its text alternative."""
    head = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title + ". " + description)}">'
    return head + f'<title>{escape(title)}</title>' + ''.join(body) + '</svg>'


def span(values: Sequence[float]) -> tuple[float, float]:
    """Return limits of an axis around values; it does not go below 0 where they do not."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.01
    return (low - margin if low < 0 else max(0.0, low - margin)), high + margin


def ticks(low: float, high: float, whole: bool = False) -> list[tuple[float, str]]:
    """Return round numbers between two limits, three to seven of them, and how they are written.

    Args:
        low: Lower limit.
        high: Upper limit, above it.
        whole: Whether only whole numbers make sense.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / 2))
    step = next(factor * power for factor in (5, 2, 1, 0.5) if (high - low) / (factor * power) >= 2.5)
    if whole:
        step = max(1.0, step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, f'{number * step:.{decimals}f}') for number in range(first, last + 1)]


def text(x: float, y: float, content: str, anchor: str = 'start') -> str:
    """Return a label."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line of a class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def axis(low: float, high: float, y: float, unit: float) -> list[str]:
    """Return an axis with its ticks."""
    parts = [line(LEFT, y, WIDTH - RIGHT, y, 'axis')]
    for value, label in ticks(unit * low, unit * high):
        x = LEFT + (WIDTH - LEFT - RIGHT) * (value / unit - low) / (high - low)
        parts += [line(x, y, x, y + 4, 'axis'), text(x, y + 17, label, 'middle')]
    return parts


def intervals(title: str, rows: Sequence[tuple[str, float | None, float | None, float | None]], unit: float) -> str:
    """Draw means with their intervals.

    Args:
        title: Of the chart.
        rows: Label, mean, low, high; None for missing, which is written out.
        unit: Factor of the numbers on the axis.
    """
    known = [value for row in rows for value in row[1:] if value is not None]
    if not known:
        return ''
    low, high = span(known)
    parts, said = [], []
    for index, (label, mean, bottom, top) in enumerate(rows):
        y = 26 + ROW * index
        if mean is None:
            parts.append(text(LEFT, y - 10, f'{label}: missing'))
            said.append(f'{label} missing')
            continue
        parts.append(text(LEFT, y - 10, label))
        ends = (mean, mean if bottom is None else bottom, mean if top is None else top)
        places = [LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low) for value in ends]
        parts += [line(places[1], y, places[2], y, 'bar'), f'<circle cx="{places[0]:.1f}" cy="{y}" r="5"/>']
        said.append(f'{label} {unit * mean:.2f}')
    y = 20 + ROW * len(rows)
    return svg(y + 24, title, '; '.join(said), [*parts, *axis(low, high, y, unit)])


def differences(
    title: str, order: Sequence[str], means: Sequence[float], groups: Sequence[Sequence[int]], unit: float
) -> str:
    """Draw a critical-difference diagram: methods on an axis, a thick line over each group that ties."""
    low, high = span(means)
    ties = [group for group in groups if len(group) > 1]
    top = 16 + 10 * len(ties)
    place = [LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low) for value in means]
    base = top + ROW * len(order) + 10
    parts = axis(low, high, base, unit)
    for index, (label, x) in enumerate(zip(order, place, strict=True)):
        y = top + 26 + ROW * index
        parts += [line(x, top, x, y, 'thin'), line(LEFT, y, x, y, 'thin'), text(LEFT, y - 8, label)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4"/>')
    for index, group in enumerate(ties):
        ends = [place[member] for member in group]
        parts.append(line(min(ends) - 5, 10 + 10 * index, max(ends) + 5, 10 + 10 * index, 'tie'))
    said = '; '.join('not told apart: ' + ', '.join(order[m] for m in group) for group in ties) or 'all differ'
    return svg(base + 24, title, said, parts)


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: float, across: str) -> str:
    """Draw lines; each has a color, a dash and its label in the legend. Without two points there is no line."""
    series = {label: values for label, values in series.items() if len(values) > 1}
    points = [point for line_ in series.values() for point in line_]
    if not points:
        return ''
    left, right = span([x for x, _ in points])
    low, high = span([y for _, y in points])
    base, height = 220, 200
    parts = [line(60, base, WIDTH - RIGHT, base, 'axis'), line(60, base - height, 60, base, 'axis')]
    for value, label in ticks(left, right, whole=all(float(x).is_integer() for x, _ in points)):
        x = 60 + (WIDTH - 60 - RIGHT) * (value - left) / (right - left)
        parts += [line(x, base, x, base + 4, 'axis'), text(x, base + 17, label, 'middle')]
    for value, label in ticks(unit * low, unit * high):
        y = base - height * (value / unit - low) / (high - low)
        parts += [line(56, y, 60, y, 'axis'), text(54, y + 4, label, 'end')]
    parts.append(text(WIDTH / 2, base + 34, across, 'middle'))
    said = []
    for index, (label, values) in enumerate(series.items()):
        across_by, up_by = (WIDTH - 60 - RIGHT) / (right - left), height / (high - low)
        places = [(60 + across_by * (x - left), base - up_by * (y - low)) for x, y in values]
        path = ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
        dashes = DASHES[(index + index // 6) % 6]  # With more lines than colors, a color returns with other dashes.
        style = f'class="curve c{index % 6}" stroke-dasharray="{dashes}"'
        down = base + 54 + 20 * index
        if len(places) <= MARKED:
            parts += [f'<circle class="d{index % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        parts += [f'<polyline {style} points="{path}"/>', f'<polyline {style} points="60,{down - 4} 100,{down - 4}"/>']
        parts.append(text(108, down, label))
        said.append(f'{label} ends at {unit * values[-1][1]:.3g}')
    return svg(base + 54 + 20 * len(series), title, '; '.join(said), parts)
