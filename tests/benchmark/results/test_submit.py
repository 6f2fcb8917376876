"""A submission that keeps back what could be checked has differences; whole ones are in test_cells.py."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from vasomim.benchmark.results.store import format_record
from vasomim.benchmark.results.submit import MANIFEST, check
from vasomim.benchmark.study.entries import benchmark_folder

RECORD = sorted((benchmark_folder() / 'results').glob('[0-9a-f]*.json'))[0]


def submission(path: Path, record: dict, cells: list[str]) -> Path:
    """A zip file whose hashes and checksums are all right."""
    name = f'results/{RECORD.stem}.json'
    content = format_record({key: value for key, value in record.items() if key != 'checksum'}).encode()
    manifest = {'schema': 1, 'cells': cells, 'files': {name: hashlib.sha256(content).hexdigest()}}
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr(name, content)
        file.writestr(MANIFEST, json.dumps(manifest))
    return path


@pytest.mark.parametrize(
    ('changes', 'listed', 'said'),
    [
        ({'tables': {}, 'scores': {'DSC': 0.99}}, True, 'the scores per image are missing'),
        ({'tables': {}, 'status': 'failed'}, True, 'it is not finished'),
        ({'tables': {}}, False, 'it lists 0 cells, and holds 1 records'),
    ],
)
def test_what_is_kept_back_is_a_difference(tmp_path, changes, listed, said) -> None:
    record = {**json.loads(RECORD.read_text(encoding='utf-8')), **changes}
    path = submission(tmp_path / 'mine.zip', record, [RECORD.stem] if listed else [])
    lines, _ = check(path, None, [], 1e-6)
    assert any(said in line for line in lines), lines
