"""The leaderboard as a LaTeX table (booktabs), and as CSV."""

from __future__ import annotations

import csv
import io
import re

from vasomim.benchmark.reporting.markdown import Table, main_rows
from vasomim.benchmark.results.tables import csv_text
from vasomim.errors import printable

SPECIAL = {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    **{mark: f'\\{mark}' for mark in '&%$#_{}'},
    **{mark: f'{{{mark}}}' for mark in '[]*'},  # After the end of a row they would be options of it.
    **{mark: f'\\text{name}{{}}' for mark, name in (('<', 'less'), ('>', 'greater'), ('|', 'bar'))},
}


def escape(text: str) -> str:
    """Return a text on one line, as LaTeX prints it."""
    line = printable(' '.join(text.split()))
    return re.sub('|'.join(map(re.escape, SPECIAL)), lambda match: SPECIAL[match[0]], line)


def latex(table: Table) -> str:
    """Return the main table; it needs the package booktabs."""
    header, rows = main_rows(table)
    lines = [r'\begin{tabular}{l' + 'r' * (len(header) - 1) + '}', r'\toprule']
    lines += [' & '.join(map(escape, header)) + r' \\', r'\midrule']
    lines += [' & '.join(map(escape, row)) + r' \\' for row in rows]
    return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}']) + '\n'


def comma_separated(table: Table) -> str:
    """Return a line for each task, metric, method and share of the labels; empty fields are missing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    keys = ('mean', 'deviation', 'low', 'high')
    writer.writerow(['task', 'metric', 'method', 'label_fraction', 'status', 'seeds', *keys, 'device_hours', 'command'])
    for row in table['results']:
        for metric, found in row['metrics'].items():
            place = [*map(csv_text, (row['task'], metric, row['method'])), row['fraction'], row['status'], row['seeds']]
            writer.writerow([*place, *(found[key] for key in keys), row['hours'], csv_text(row['command'])])
    return buffer.getvalue()
