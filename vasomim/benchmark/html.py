"""The leaderboard as one HTML page that needs no network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from vasomim.benchmark import charts
from vasomim.benchmark.markdown import (
    Table,
    between,
    comparison_rows,
    cost_rows,
    figure,
    main_rows,
    reported_rows,
    simple_rows,
    state,
    tie_lines,
    titles,
)
from vasomim.benchmark.table import SMALLER_IS_BETTER


def html(table: Table, pictures: Path | None = None) -> str:
    """Return the page.

    Args:
        table: What :meth:`Leaderboard.as_dict` gives.
        pictures: Folder of PNG files to show, by name.
    """
    import jinja2

    folder = Path(__file__).parent / 'templates'
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template('leaderboard.html')
    filters = [(task['name'], task['title']) for task in table['tasks']]
    page = template.render(
        table=table,
        filters=filters,
        overview=section('Overview', *main_rows(table)),
        sections=sections(table),
        charts=drawn(table),
        ties=tie_lines(table),
        pictures=embedded(pictures),
    )
    return '\n'.join(line.rstrip() for line in page.splitlines() if line.strip()) + '\n'


def section(
    title: str, header: list[str], rows: list[list[str]], tasks: list[str] | None = None, kind: str = ''
) -> dict[str, Any]:
    """Return what the template makes a sortable table of; ``tasks`` names the task of each row for the filter."""
    return {
        'title': title,
        'header': header,
        'rows': list(zip(tasks or [''] * len(rows), rows, strict=True)),
        'kind': kind,
    }


def sections(table: Table) -> list[dict[str, Any]]:
    """Return all tables but the first."""
    names, planned = titles(table), len(table['seeds'])
    rows, of_task = [], []
    for row in table['results']:
        for metric, found in row['metrics'].items():
            mean = figure(found['mean'], metric) if found['mean'] is not None else state(row, planned)
            deviation = figure(found['deviation'], metric)
            interval = between(found['low'], found['high'], metric)
            place = [titles(table, 'tasks')[row['task']], names[row['method']], metric, f'{row["fraction"]:.0%}']
            rows.append([*place, mean, deviation, interval, f'{row["seeds"]} of {planned}', '; '.join(row['errors'])])
            of_task.append(row['task'])
    header = ['Task', 'Method', 'Metric', 'Labels', 'Mean', 'Deviation', '95 % interval', 'Seeds', 'Errors']
    found_sections = [section('Results by task', header, rows, of_task)]
    ranks = [
        [names[row['method']]]
        + ['missing' if row[key] is None else f'{row[key]:.2f}' for key in ('rank', 'low', 'high')]
        + ['missing' if row[key] is None else f'{row[key]:.2f}' for key in ('borda', 'borda_low', 'borda_high')]
        + [', '.join(titles(table, 'tasks')[task] for task in row['missing']) or 'none']
        for row in table['ranks']
    ]
    head = ['Method', 'Mean rank', 'from', 'to', 'Borda', 'from', 'to', 'Missing tasks']
    found_sections.append(section('Ranks over tasks, with 95 % intervals', head, ranks))
    baseline = names.get(table['family'].get('baseline') or '', 'no baseline')
    title = f'Planned comparisons with {baseline}'
    found_sections.append(section(title, *comparison_rows(table), [row['task'] for row in table['comparisons']]))
    found_sections.append(section('Subgroups', *simple_rows(table, 'subgroups'), of(table, 'subgroups', 'task')))
    found_sections.append(
        section('Trained on one set, tested on another', *simple_rows(table, 'cross'), of(table, 'cross', 'trained'))
    )
    found_sections.append(section('Cost and commands', *cost_rows(table), of(table, 'results', 'task')))
    title = "Reported: the papers' figures, never ranked or averaged with ours"
    found_sections.append(section(title, *reported_rows(table), kind='reported'))
    return [item for item in found_sections if item['rows']]


def of(table: Table, part: str, key: str) -> list[str]:
    """Return the task of each row."""
    return [row[key] for row in table[part]]


def drawn(table: Table) -> list[tuple[str, str, str]]:
    """Return charts: task, title, SVG."""
    names, tasks = titles(table), titles(table, 'tasks')
    share = max(table['fractions'])
    found: list[tuple[str, str, str]] = []
    for task in table['tasks']:
        name, metric = task['name'], task['primary']
        unit = 1.0 if metric in SMALLER_IS_BETTER else 100.0
        mine = [row for row in table['results'] if row['task'] == name]
        rows = [
            (names[row['method']], *(row['metrics'][metric][key] for key in ('mean', 'low', 'high')))
            for row in mine
            if row['fraction'] == share
        ]
        title = f'{task["title"]}: {metric} and 95 % intervals'
        found.append((name, title, charts.intervals(title, rows, unit)))
        for ties in (ties for ties in table['ties'] if ties['task'] == name):
            groups = [[ties['order'].index(method) for method in group] for group in ties['groups']]
            title = f'{task["title"]}: critical differences of {ties["metric"]}'
            order = [names[method] for method in ties['order']]
            found.append((name, title, charts.differences(title, order, ties['means'], groups, unit)))
        if len(table['fractions']) > 1:
            series = {
                names[method]: [
                    (100 * row['fraction'], row['metrics'][metric]['mean'])
                    for row in sorted(mine, key=lambda row: row['fraction'])
                    if row['method'] == method and row['metrics'][metric]['mean'] is not None
                ]
                for method in names
            }
            title = f'{task["title"]}: {metric} by share of the labels'
            found.append((name, title, charts.curves(title, series, unit, '% of the labels')))
        series = {}
        for item in (item for item in table['convergence'] if item['task'] == name):
            values = [(point['epoch'], point.get(metric)) for point in item['curve']]
            series[names[item['method']]] = [(x, y) for x, y in values if y is not None]
        title = f'{task["title"]}: validation {metric} by epoch, first seed'
        found.append((name, title, charts.curves(title, series, unit, 'epoch')))
    losses = {
        names[item['method']]: [(point['epoch'], point['loss_rec']) for point in item['curve'] if point.get('loss_rec')]
        for item in table['convergence']
        if item['kind'] == 'pre-training'
    }
    title = 'Pre-training: reconstruction loss by epoch'
    found.append(('', title, charts.curves(title, losses, 1.0, 'epoch')))
    return [(task if task in tasks else '', title, picture) for task, title, picture in found if picture]


def embedded(folder: Path | None) -> list[tuple[str, str]]:
    """Return pictures as titles and data URIs."""
    if folder is None:
        return []
    return [
        (path.stem.replace('_', ' '), 'data:image/png;base64,' + base64.b64encode(path.read_bytes()).decode())
        for path in sorted(folder.glob('*.png'))
    ]
