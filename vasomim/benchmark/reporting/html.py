"""The leaderboard as one HTML page that needs no network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter
from typing_extensions import TypedDict

from vasomim.benchmark.reporting import charts
from vasomim.benchmark.reporting.markdown import (
    NONE,
    TIES,
    Table,
    between,
    comparison_rows,
    cost_rows,
    crossed_rows,
    crossed_tasks,
    family_line,
    figure,
    found_cells,
    is_text,
    main_rows,
    progress,
    reported_rows,
    state,
    tie_lines,
    titles,
)
from vasomim.benchmark.reporting.table import SMALLER_IS_BETTER
from vasomim.benchmark.schema import STRICT, checked, shortened
from vasomim.errors import ConfigError
from vasomim.files import read_json, read_regular

BARS = 'A thick bar joins methods that were not told apart after correction for all pairs.'
INDEX = 'pictures.json'
MOST_BYTES = 1 << 26  # Of a picture.


def file_name(text: str) -> str:
    """Check the name of a picture.

    Raises:
        ValueError: If it leads out of the folder: the page would show, and pass on, any file.
    """
    if Path(text).name != text or not text.endswith('.png'):
        raise ValueError(f'{shortened(text)} is no name of a PNG file in this folder')
    return text


@STRICT
class Picture(TypedDict):
    """A picture of the page."""

    file: Annotated[str, AfterValidator(file_name)]
    task: str
    title: str
    alt: str


PICTURES = TypeAdapter(list[Picture])


def html(table: Table, pictures: Path | None = None) -> str:
    """Return the page.

    Args:
        table: What :meth:`Leaderboard.as_dict` gives.
        pictures: Folder of PNG files to show, by name.
    """
    import jinja2

    folder = Path(__file__).parent / 'templates'
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,  # What the table lacks is an error, and not a gap in a sentence.
    )
    template = environment.get_template('leaderboard.html')
    header, rows = main_rows(table)
    columns = ['', *(task['name'] for task in table['tasks'] for _ in task['metrics']), '', '']
    found, _ = found_cells(table)
    page = template.render(
        table=table,
        filters=[(task['name'], task['title']) for task in table['tasks']],
        progress=(progress(table) or '').split('`'),
        family=family_line(table) if table['family']['baseline'] else None,
        overview=section('Overview', header, rows, columns=columns) if found else None,
        sections=sections(table),
        charts=drawn(table),
        tie_note=TIES,
        ties=list(zip((ties['task'] for ties in table['ties']), tie_lines(table), strict=True)),
        pictures=embedded(pictures),
    )
    return '\n'.join(line.rstrip() for line in page.splitlines() if line.strip()) + '\n'


def section(
    title: str,
    header: list[str],
    rows: list[list[str]],
    tasks: list[str] | None = None,
    kind: str = '',
    columns: list[str] | None = None,
) -> dict[str, Any]:
    """Return what the template makes a sortable table of.

    Args:
        title: Its heading.
        header: Heads of the columns.
        rows: Texts.
        tasks: The task of each row, for the filter; None for rows that it never hides.
        kind: 'reported' for figures of papers.
        columns: The task of each column, '' for one of all tasks.
    """
    columns = columns or [''] * len(header)
    texts = [any(is_text(row[index]) for row in rows) for index in range(len(header))]
    return {
        'title': title,
        'header': [
            {'name': name, 'task': task, 'text': text} for name, task, text in zip(header, columns, texts, strict=True)
        ],
        'rows': list(zip(tasks or [''] * len(rows), rows, strict=True)),
        'kind': kind,
    }


def sections(table: Table) -> list[dict[str, Any]]:
    """Return all tables but the first."""
    names, planned = titles(table), len(table['seeds'])
    rows, of_task = [], []
    for row in table['results']:
        for metric, found in row['metrics'].items():
            place = [names[row['method']], titles(table, 'tasks')[row['task']], metric, f'{row["fraction"]:.0%}']
            shown = figures_of(found, metric) if found['mean'] is not None else [state(row, planned), '', '']
            rows.append([*place, *shown, f'{row["seeds"]} of {planned}', '; '.join(row['errors'])])
            of_task.append(row['task'])
    header = ['Method', 'Task', 'Metric', 'Labels', 'Mean', 'Deviation', '95 % interval', 'Seeds', 'Errors']
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
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
    found_sections.append(section('Subgroups', *crossed_rows(table, 'subgroups'), crossed_tasks(table, 'subgroups')))
    found_sections.append(
        section('Trained on one set, tested on another', *crossed_rows(table, 'cross'), crossed_tasks(table, 'cross'))
    )
    found_sections.append(section('Cost and commands', *cost_rows(table), of(table, 'results', 'task')))
    title = "Reported: the papers' figures, never ranked or averaged with ours"
    found_sections.append(section(title, *reported_rows(table), kind='reported'))
    if not found_cells(table)[0]:  # What there is to say without results: how to get them, and what others report.
        found_sections = found_sections[-2:]
    return [item for item in found_sections if item['rows']]


def figures_of(found: dict[str, Any], metric: str) -> list[str]:
    """Return mean, deviation and interval; one seed has no deviation, a score of the whole set no interval."""
    deviation = NONE if found['deviation'] is None else figure(found['deviation'], metric)
    interval = NONE if found['low'] is None else between(found['low'], found['high'], metric)
    return [figure(found['mean'], metric), deviation, interval]


def of(table: Table, part: str, key: str) -> list[str]:
    """Return the task of each row."""
    return [row[key] for row in table[part]]


def drawn(table: Table) -> list[tuple[str, str, str, str]]:
    """Return charts: task, title, how to read it, SVG."""
    names, tasks = titles(table), titles(table, 'tasks')
    share = max(table['fractions'])
    found: list[tuple[str, str, str, str]] = []
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
        found.append((name, title, '', charts.intervals(title, rows, unit)))
        for ties in (ties for ties in table['ties'] if ties['task'] == name):
            groups = [[ties['order'].index(method) for method in group] for group in ties['groups']]
            title = f'{task["title"]}: critical differences of {ties["metric"]}'
            order = [names[method] for method in ties['order']]
            found.append((name, title, BARS, charts.differences(title, order, ties['means'], groups, unit)))
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
            found.append((name, title, '', charts.curves(title, series, unit, '% of the labels')))
        series = {}
        for item in (item for item in table['convergence'] if item['task'] == name):
            values = [(point['epoch'], point.get(metric)) for point in item['curve']]
            series[names[item['method']]] = [(x, y) for x, y in values if y is not None]
        title = f'{task["title"]}: validation {metric} by epoch, first seed'
        found.append((name, title, '', charts.curves(title, series, unit, 'epoch')))
    losses = {
        names[item['method']]: [(point['epoch'], point['loss_rec']) for point in item['curve'] if point.get('loss_rec')]
        for item in table['convergence']
        if item['kind'] == 'pre-training'
    }
    title = 'Pre-training: reconstruction loss by epoch'
    found.append(('', title, '', charts.curves(title, losses, 1.0, 'epoch')))
    return [(task if task in tasks else '', title, note, picture) for task, title, note, picture in found if picture]


def embedded(folder: Path | None) -> list[dict[str, str]]:
    """Return the pictures of a folder with title, text alternative and task.

    :mod:`vasomim.benchmark.reporting.panels` writes the list of them; a folder without it gives all PNG files, by name.

    Raises:
        ConfigError: If the list is damaged, or names what is not in the folder.
    """
    if folder is None or not folder.is_dir():
        return []
    index = folder / INDEX
    cure = 'Write it anew by `vasomim benchmark report --pictures`, or delete it.'
    listed = (
        checked(PICTURES, read_json(index, ConfigError, cure, list), index, ConfigError, cure)
        if index.is_file()
        else [
            {'file': path.name, 'title': path.stem.replace('_', ' '), 'alt': path.stem.replace('_', ' '), 'task': ''}
            for path in sorted(folder.glob('*.png'))
        ]
    )
    start = 'data:image/png;base64,'
    found = []
    for item in listed:
        content = read_regular(folder / item['file'], ConfigError, cure, MOST_BYTES)
        found.append({**item, 'data': start + base64.b64encode(content).decode()})
    return found
