"""The leaderboard as Markdown: the page, the README's table, and model cards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from vasomim.benchmark.reporting.table import SMALLER_IS_BETTER
from vasomim.benchmark.study.entries import command_of
from vasomim.errors import printable

MISSING = 'missing'
NONE = 'none'  # Where there cannot be any.
LEFT_OUT = 'left out'  # What the study does not plan.
TIES = (
    'Runs of methods, best first, of which no two differ significantly after correction for all pairs: they were not '
    'told apart, which does not make them equal.'
)
Table = Mapping[str, Any]


def seeds_of(table: Table) -> str:
    """Return the number of seeds in words."""
    number = len(table['seeds'])
    return '1 seed' if number == 1 else f'{number} seeds'


def figure(value: float | None, metric: str = '', digits: int = 2) -> str:
    """Return a score in percent (HD95 as it is), or the word for a missing one."""
    if value is None:
        return MISSING
    return f'{value:.{digits}f}' if metric in SMALLER_IS_BETTER else f'{100 * value:.{digits}f}'


def score(row: Table | None, metric: str, planned: int) -> str:
    """Return mean and deviation of a result, or why there is none; None for one that is not planned."""
    if row is None:
        return LEFT_OUT
    found = row['metrics'][metric]
    if found['mean'] is None:
        return state(row, planned)
    deviation = f' ± {figure(found["deviation"], metric)}' if found['deviation'] is not None else ''
    return figure(found['mean'], metric) + deviation


def state(row: Table, planned: int) -> str:
    """Return in words why there is no mean."""
    if row['status'] == 'finished':
        return 'undefined'
    if row['status'] == MISSING:
        return MISSING
    word = 'failed' if row['status'] == 'failed' else MISSING
    return f'{word} ({row["seeds"]} of {planned} seeds)'


def between(low: float | None, high: float | None, metric: str = '') -> str:
    """Return an interval."""
    return MISSING if low is None or high is None else f'{figure(low, metric)} to {figure(high, metric)}'


def chance(p: float | None) -> str:
    """Return a p-value with three digits."""
    return MISSING if p is None else '< 0.001' if p < 0.001 else f'{p:.3f}'


def found_cells(table: Table) -> tuple[int, int]:
    """Return the numbers of finished and of planned cells."""
    return sum(row['seeds'] for row in table['results']), len(table['results']) * len(table['seeds'])


def progress(table: Table) -> str | None:
    """Return in words what is left to run, None where nothing is."""
    found, planned = found_cells(table)
    if found == planned:
        return None
    started = f'{found} of its {planned} cells have' if found else f'none of its {planned} cells has'
    command = ' '.join(command_of(table['protocol']))
    return f'This study is not finished: {started} a result so far. What is left is run by `{command}`'


def titles(table: Table, kind: str = 'methods') -> dict[str, str]:
    """Return titles by name."""
    return {item['name']: item['title'] for item in table[kind]}


def main_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the main table: methods by tasks and metrics, all labels."""
    columns = [(task, metric) for task in table['tasks'] for metric in task['metrics']]
    header = ['Method', *(f'{task["title"]} {metric}' for task, metric in columns), 'Mean rank', 'Borda']
    share = max(table['fractions'])
    found = {(row['task'], row['method']): row for row in table['results'] if row['fraction'] == share}
    ranks = {row['method']: row for row in table['ranks']}
    rows = []
    for method in table['methods']:
        name = method['name']
        cells = [score(found.get((task['name'], name)), metric, len(table['seeds'])) for task, metric in columns]
        rank = ranks.get(name)
        shown = [
            LEFT_OUT if rank is None else MISSING if rank[key] is None else f'{rank[key]:.2f}'
            for key in ('rank', 'borda')
        ]
        rows.append([method['title'], *cells, *shown])
    return header, rows


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; words stand on the left, numbers on the right."""
    texts = [any(is_text(row[index]) for row in rows) for index in range(len(header))]
    lines = [header, ['---' if text else '---:' for text in texts], *rows]
    return '\n'.join('| ' + ' | '.join(escape(cell) for cell in line) + ' |' for line in lines) + '\n'


def is_text(cell: str) -> bool:
    """Return whether a cell holds words, which stand on the left, and no number or the word for a missing one."""
    return bool(cell) and not cell.startswith((*'0123456789-<', MISSING, NONE, LEFT_OUT, 'failed', 'undefined'))


def escape(text: str) -> str:
    """Return a text on one line, as Markdown shows it: no markup, HTML, link or end of a table's cell.

    A text between backticks is code, and stays code.
    """
    line = printable(' '.join(str(text).split()))
    if len(line) > 2 and line[0] == line[-1] == '`':
        code = line[1:-1]
        fence = '`' * (1 + max((len(run) for run in re.findall('`+', code)), default=0))
        space = ' ' if code[0] == '`' or code[-1] == '`' else ''
        return f'{fence}{space}{code}{space}{fence}'.replace('|', '\\|')
    line = re.sub(r'&(?=#?\w+;)', '&amp;', line).replace('<', '&lt;')
    return re.sub(r'[\\`*\[\]|]|(?<!\w)_|_(?!\w)', lambda mark: f'\\{mark[0]}', line)


def comparison_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the planned comparisons."""
    header = ['Task', 'Labels', 'Method', 'Metric', 'Difference', '95 % interval', 'p (Holm)', 'Wilcoxon p (Holm)']
    header += ['Detectable', 'Significant', 'Images']
    names, tasks = titles(table), titles(table, 'tasks')
    rows = []
    for row in table['comparisons']:
        metric = row['metric']
        rows.append(
            [
                tasks[row['task']],
                f'{row["fraction"]:.0%}',
                names[row['method']],
                metric,
                figure(row['difference'], metric),
                between(row['low'], row['high'], metric),
                chance(row['p_holm']),
                chance(row['wilcoxon_holm']),
                figure(row['detectable'], metric),
                'yes' if row['significant'] else 'no',
                str(row['images']),
            ]
        )
    return header, rows


def cost_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what everything took, with the commands."""
    names, tasks = titles(table), titles(table, 'tasks')
    rows = [
        [
            names[row['method']],
            tasks[row['task']],
            f'{row["fraction"]:.0%}',
            f'{row["seeds"]} of {len(table["seeds"])}',
            *costs(row),
            f'`{row["command"]}`',
        ]
        for row in table['results']
    ]
    header = ['Method', 'Task', 'Labels', 'Seeds', 'Device-hours', 'Predicted', 'Pre-training', 'Memory GB']
    return [*header, 'Device', 'Command'], rows


def costs(row: Table) -> list[str]:
    """Return device-hours of the cells, as predicted, and of their pre-trainings, memory and devices."""
    if row['hours'] is None:
        return [MISSING, '', '', '', '']
    spent = [NONE if row[key] is None else hours(row[key]) for key in ('predicted_hours', 'pretraining_hours')]
    return [hours(row['hours']), *spent, f'{row["memory_gb"]:.1f}', ', '.join(row['devices'])]


def hours(value: float) -> str:
    """Return hours, short ones to the second."""
    return f'{value:.2f}' if value >= 0.1 else f'{value:.4f}'


def crossed_rows(table: Table, part: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of subgroups or of tests on other sets, a column for each method.

    Args:
        table: The table.
        part: 'subgroups' or 'cross'.
    """
    keys = {'subgroups': ('task', 'subgroup', 'group'), 'cross': ('trained', 'tested')}[part]
    names, tasks = titles(table), titles(table, 'tasks')
    planned = {(row['task'], row['method']) for row in table['results']}
    found: dict[tuple[str, ...], dict[str, Table]] = {}
    for row in table[part]:
        found.setdefault((*(row[key] for key in keys), row['metric']), {})[row['method']] = row
    shown = [name for name in names if any(name in rows for rows in found.values())]
    lines = []
    for place, rows in found.items():
        images = [str(max(row['images'] or 0 for row in rows.values()))] if part == 'subgroups' else []
        values = [with_deviation(rows.get(name)) if (place[0], name) in planned else LEFT_OUT for name in shown]
        lines.append([*(tasks.get(key, str(key)) for key in place[:-1]), *images, place[-1], *values])
    head = [*(key.capitalize() for key in keys), *(['Images'] if part == 'subgroups' else []), 'Metric']
    return [*head, *(names[name] for name in shown)], lines


def with_deviation(row: Table | None) -> str:
    """Return mean and deviation of a row; a group without images has none, and is not missing."""
    if row is None or row['mean'] is None:
        return NONE if row is not None and row.get('images') == 0 else MISSING
    deviation = f' ± {figure(row["deviation"], row["metric"])}' if row['deviation'] is not None else ''
    return figure(row['mean'], row['metric']) + deviation


def crossed_tasks(table: Table, part: str) -> list[str]:
    """Return the task of each row of :func:`crossed_rows`."""
    keys = {'subgroups': ('task', 'subgroup', 'group'), 'cross': ('trained', 'tested')}[part]
    return [place[0] for place in dict.fromkeys((*(row[key] for key in keys), row['metric']) for row in table[part])]


def reported_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the papers' figures."""
    header = ['Method', 'Task', 'Metric', 'Reported', 'Setting', 'Source']
    rows = [
        [row['method'], row['task'], row['metric'], f'{row["value"]:.2f}', row['setting'], row['source']]
        for row in table['reported']
    ]
    return header, rows


def tie_lines(table: Table) -> list[str]:
    """Return a line for each task with its groups of ties."""
    names, tasks = titles(table), titles(table, 'tasks')
    return [
        f'{tasks[ties["task"]]} ({ties["metric"]}): '
        + '; '.join(', '.join(names[method] for method in group) for group in ties['groups'])
        for ties in table['ties']
    ]


def family_line(table: Table) -> str:
    """Return in words how the comparisons with the baseline are made."""
    planned = ', '.join(f'{task["planned"]} on {task["title"]}' for task in table['tasks'])
    return (
        'Paired per image; Holm over the comparisons that were planned with the same task and labels '
        f'(with all labels {planned}); alpha {table["family"]["alpha"]}; power 0.8.'
    )


def page(table: Table) -> str:
    """Return LEADERBOARD.md."""
    baseline = titles(table).get(table['family'].get('baseline') or '')
    lines = [f'# {escape(table["title"])}', '', *(f'> {escape(note)}' + '\n>' for note in table['notes'])]
    lines[-1] = lines[-1].removesuffix('\n>')
    if told := progress(table):
        lines += ['', told]
    if found_cells(table)[0]:
        lines += ['', f'Mean ± deviation over {seeds_of(table)}, in percent; HD95 in pixels.', '']
        lines += [grid(*main_rows(table))]
    else:
        lines += ['']
    errors = [f'{row["task"]}, {row["method"]}, {error}' for row in table['results'] for error in row['errors']]
    if errors:
        lines += ['## Failed cells', '', *(f'- {escape(error)}' for error in errors), '']
    if baseline is not None and table['comparisons']:
        lines += [f'## Comparisons with {escape(baseline)}', '', escape(family_line(table)), '']
        lines += [grid(*comparison_rows(table))]
    if table['ties']:
        lines += ['## Tie groups', '', TIES, '', *(f'- {escape(line)}' for line in tie_lines(table)), '']
    for part, title in (('subgroups', 'Subgroups'), ('cross', 'Trained on one set, tested on another')):
        if table[part]:
            lines += [f'## {title}', '', grid(*crossed_rows(table, part))]
    lines += ['## Cost and commands', '', grid(*cost_rows(table))]
    if table['reported']:
        lines += ["## Reported: the papers' figures", '', 'Copied from papers, never ranked or averaged with ours.', '']
        lines += [grid(*reported_rows(table))]
    return '\n'.join(lines).rstrip() + '\n'


def model_card(table: Table, method: str) -> str:
    """Return the card of a method."""
    entry = next(item for item in table['methods'] if item['name'] == method)
    header, rows = main_rows(table)
    mine = next(row for row in rows if row[0] == entry['title'])
    head, spent = cost_rows(table)
    lines = [f'# {escape(entry["title"])}', '']
    lines += [f'Kind: {entry["kind"]}. Reference: {escape(entry["reference"]) or "none"}.', '']
    lines += ['For research, not for diagnosis.', '', '## Results', '', f'Study: {escape(table["title"])}.', '']
    if found_cells(table)[0]:
        lines += [grid(['Measure', 'Value'], list(zip(header[1:], mine[1:], strict=True)))]
    else:
        lines += [f'{progress(table)}', '']
    lines += ['## Cost', '']
    lines += [grid(head, [row for row in spent if row[0] == entry['title']]), '## Limits', '']
    return '\n'.join([*lines, *(f'- {escape(note)}' for note in table['notes'])]) + '\n'
