"""The leaderboard as a LaTeX table (booktabs), and as CSV."""

from __future__ import annotations

import csv
import io
import re

from vasomim.benchmark.report.markdown import Table, main_rows

SPECIAL = {
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    **{mark: f'\\{mark}' for mark in '&%$#_{}'},
}


def escape(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return re.sub('|'.join(map(re.escape, SPECIAL)), lambda match: SPECIAL[match[0]], text)


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
            place = [row['task'], metric, row['method'], row['fraction'], row['status'], row['seeds']]
            writer.writerow([*place, *(found[key] for key in keys), row['hours'], row['command']])
    return buffer.getvalue()
