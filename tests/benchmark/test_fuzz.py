"""Entries and submissions, changed at random: the answer is always the project's own."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from tests.benchmark.submission.made import Forgery, Made
from vasomim.benchmark.study.loading import load_entries, shipped_entries
from vasomim.errors import VasoMIMError

pytestmark = pytest.mark.slow
PIECES = [
    b'&a ',
    b'*a',
    b'<<: ',
    b'[',
    b'{',
    b'}',
    b']',
    b'- ',
    b': ',
    b'\n',
    b'\0',
    b'\xff',
    b'-1',
    b'1e999',
    b'NaN',
    b'null',
]
PIECES += [
    b'9' * 30,
    b'"\\ud800"',
    b'!!binary ',
    b'!!set ',
    b'2026-01-01',
    b'true',
    b"'",
    b'"',
    b'\t',
    b'seeds',
    b'name',
    b'..',
]


def changed(content: bytes, chance: random.Random) -> bytes:
    """A few bytes are replaced, doubled, dropped or followed by a piece that means something to a parser."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        stop = min(len(content), start + chance.choice((0, 1, 3, 20)))
        middle = chance.choice((b'', chance.choice(PIECES), content[start:stop] * 2, chance.randbytes(2)))
        content = content[:start] + middle + content[stop:]
    return content


def test_entries_are_read_or_refused(tmp_path: Path) -> None:
    files = [
        path.read_bytes() for kind in ('tasks', 'methods', 'protocols') for path in shipped_entries().glob(f'{kind}/*')
    ]
    refused = 0
    for seed in range(600):
        chance = random.Random(seed)
        kind = chance.choice(('tasks', 'methods', 'protocols'))
        (tmp_path / kind).mkdir(exist_ok=True)
        (tmp_path / kind / 'entry.yaml').write_bytes(changed(chance.choice(files), chance))
        try:
            entries = load_entries([tmp_path], own=tmp_path / 'none')
            for name in entries.protocols:
                entries.protocol(name)
        except VasoMIMError:
            refused += 1
        (tmp_path / kind / 'entry.yaml').unlink()
    assert 200 < refused < 600


def test_a_changed_submission_is_refused_or_differs(made: Made, tmp_path: Path) -> None:
    honest = Forgery(made.zip).members
    for seed in range(60):
        chance = random.Random(seed)
        forged = Forgery(made.zip)
        name = chance.choice([name for name in forged.members if not name.endswith('.png')])
        forged.members[name] = changed(forged.members[name], chance)
        path = forged.save(tmp_path / 'forged.zip')
        if seed % 3 == 0:
            path.write_bytes(changed(path.read_bytes(), chance))
        try:
            passed = made.verify(path).passed
        except VasoMIMError:
            continue
        if passed:  # As where a box is changed that no score depends on: all that is measured is as it was.
            with zipfile.ZipFile(path) as file:
                assert all(file.read(name) == honest[name] for name in honest if name.startswith('results/'))
