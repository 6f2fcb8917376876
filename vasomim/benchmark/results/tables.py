"""Tables of scores per case, as CSV."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vasomim.benchmark.results.records import CURE, StoreError, sha256
from vasomim.files import finite, read_regular

FORMULA = ('=', '+', '-', '@', '\t', '\r')  # What begins a formula.
MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Scores:
    """Per-case scores of a cell.

    Attributes:
        cases: Names of the N test images.
        values: By metric, float (N,), NaN where undefined.
        groups: By subgroup, the group of each image, (N,); '' where there is none.
    """

    cases: tuple[str, ...]
    values: dict[str, np.ndarray]
    groups: dict[str, tuple[str, ...]]


def format_table(scores: Scores) -> str:
    """Return a table of per-case scores as CSV: case, metrics, groups (as ``group:NAME``); empty where undefined."""
    columns = ['case', *scores.values, *(f'group:{name}' for name in scores.groups)]
    lines = [','.join(quoted(column) for column in columns)]
    for row, case in enumerate(scores.cases):
        numbers = ['' if math.isnan(column[row]) else repr(float(column[row])) for column in scores.values.values()]
        lines.append(','.join([quoted(case), *numbers, *(quoted(column[row]) for column in scores.groups.values())]))
    return '\n'.join(lines) + '\n'


def csv_text(text: str) -> str:
    """Return a text as no spreadsheet takes it for a formula: after an apostrophe where it could be one.

    :func:`from_csv_text` gives it back.
    """
    return f"'{text}" if text[:1] in FORMULA or (text[:1] == "'" and text[1:2] in (*FORMULA, "'")) else text


def from_csv_text(text: str) -> str:
    """Return what :func:`csv_text` was given."""
    return text[1:] if text[:1] == "'" and text[1:2] in (*FORMULA, "'") else text


def quoted(text: str) -> str:
    """Return a text as a field of CSV."""
    text = csv_text(text)
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def read_table(path: Path, wanted: str) -> Scores:
    """Read a table of per-case scores.

    Raises:
        StoreError: If it is missing, damaged, or another one than that of hash ``wanted``.
    """
    return parse_table(read_regular(path, StoreError, CURE, MOST_BYTES), path, wanted)


def parse_table(data: bytes, path: Path, wanted: str) -> Scores:
    """Return the per-case scores of a table that was read already; otherwise as :func:`read_table`."""
    if sha256(data) != wanted:
        raise StoreError(path, 'the per-case scores are not those that were written.', CURE)
    try:
        return table_of(data.decode())
    except (ValueError, IndexError, csv.Error) as error:
        raise StoreError(path, f'it is no table of per-case scores: {error}.', CURE) from error


def table_of(text: str) -> Scores:
    """Return per-case scores from the text that :func:`format_table` made of them.

    Raises:
        ValueError: If it made another one, or none.
    """
    rows = list(csv.reader(io.StringIO(text)))
    header, columns = rows[0], list(zip(*rows[1:], strict=True)) or [()] * len(rows[0])
    values: dict[str, np.ndarray] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for name, column in zip(map(from_csv_text, header[1:]), columns[1:], strict=True):
        if name.startswith('group:'):
            groups[name.removeprefix('group:')] = tuple(map(from_csv_text, column))
        else:
            values[name] = np.array([finite(text) if text else math.nan for text in column])
    if header[0] != 'case' or len(values) + len(groups) + 1 != len(header):
        raise ValueError('a column stands twice, or the first one holds no cases')
    return Scores(tuple(map(from_csv_text, columns[0])), values, groups)
