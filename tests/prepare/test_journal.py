"""What a later run of `prepare pretrain` knows: files by their content, damage to try again; a damaged journal."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import frame, write_png
from vasomim.anatomy import extract_anatomy
from vasomim.cli import main
from vasomim.frames.images import read_grey, read_mask


def prepare(source: Path, out: Path, *words: str) -> int:
    return main('prepare', ['pretrain', 'folder', str(source), str(out), '--name', 'x', '--jobs', '1', *words])


def check_frames(out: Path, expected: dict[str, int]) -> None:
    """Frames and maps are those of the seeds, and the manifest fits."""
    assert {path.name for path in (out / 'x').iterdir()} == {f'{name}.png' for name in expected}
    for name, seed in expected.items():
        assert np.array_equal(read_grey(out / 'x' / f'{name}.png'), frame(seed)), name
        assert np.array_equal(read_mask(out / 'x_frangi' / f'{name}.png'), extract_anatomy(frame(seed))), name
    assert main('check', [str(out), '--deep', '--partial', '--jobs', '1']) == 0


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / 'x').iterdir()}


@pytest.fixture
def source(tmp_path) -> Path:
    """Four frames as BMP, which has the same size whatever it shows."""
    for k in range(4):
        write_png(tmp_path / 'source' / f'p{k}_1.bmp', frame(k))
    return tmp_path / 'source'


def test_a_damaged_file_that_a_sound_one_of_its_size_replaces_is_read_again(source, tmp_path):
    sound = (source / 'p1_1.bmp').read_bytes()
    (source / 'p1_1.bmp').write_bytes(bytes(len(sound)))
    assert prepare(source, tmp_path / 'out') == 1
    before = times(tmp_path / 'out')
    assert set(before) == {'p0_1.png', 'p2_1.png', 'p3_1.png'}
    (source / 'p1_1.bmp').write_bytes(sound)
    assert prepare(source, tmp_path / 'out') == 0
    check_frames(tmp_path / 'out', {f'p{k}_1': k for k in range(4)})
    assert times(tmp_path / 'out').items() >= before.items()


def test_a_file_that_another_of_its_size_replaces_is_read_again_and_its_map_made_anew(source, tmp_path):
    assert prepare(source, tmp_path / 'out') == 0
    before = times(tmp_path / 'out')
    write_png(source / 'p2_1.bmp', frame(9))
    assert prepare(source, tmp_path / 'out') == 0
    check_frames(tmp_path / 'out', {'p0_1': 0, 'p1_1': 1, 'p2_1': 9, 'p3_1': 3})
    del before['p2_1.png']
    assert times(tmp_path / 'out').items() >= before.items()


@pytest.mark.parametrize('words', [(), ('--drop-similar',)])
def test_an_image_more_or_less_in_a_small_folder_continues(tmp_path, words):
    """Of one series by their names, which `--drop-similar` reads as one."""
    for k in range(3):
        write_png(tmp_path / 'source' / f'{k}.bmp', frame(k))
    assert prepare(tmp_path / 'source', tmp_path / 'out', *words) == 0
    before = times(tmp_path / 'out')
    write_png(tmp_path / 'source' / '3.bmp', frame(3))
    assert prepare(tmp_path / 'source', tmp_path / 'out', *words) == 0
    check_frames(tmp_path / 'out', {str(k): k for k in range(4)})
    if not words:
        assert times(tmp_path / 'out').items() >= before.items()
    (tmp_path / 'source' / '0.bmp').unlink()
    assert prepare(tmp_path / 'source', tmp_path / 'out', *words) == 0
    check_frames(tmp_path / 'out', {str(k): k for k in (1, 2, 3)})


def test_files_with_new_dates_are_known_by_their_content(source, tmp_path):
    assert prepare(source, tmp_path / 'out') == 0
    before = times(tmp_path / 'out')
    for path in source.iterdir():
        os.utime(path, (1e9, 1e9))
    assert prepare(source, tmp_path / 'out') == 0
    assert times(tmp_path / 'out') == before
    assert prepare(source, tmp_path / 'out') == 0
    assert all(path.stat().st_mtime == 1e9 for path in source.iterdir())
    states = [json.loads(line)[0] for line in (tmp_path / 'out' / '.x.journal').read_text().splitlines()[1:]]
    assert {state[2] for job in states for state in job} == {10**18}


def test_a_pipe_among_the_images_is_listed_and_does_not_hang(source, tmp_path):
    os.mkfifo(source / 'p9_1.png')
    assert prepare(source, tmp_path / 'out') == 1
    report = json.loads((tmp_path / 'out' / 'x.json').read_text())
    assert [place for place, _ in report['damaged']] == ['p9_1.png']
    assert report['kept'] == 4


ROW = [0, 0, 'p0_1.png', 'ab', '']
STATE = ['id', 1, 2, 'ab']


@pytest.mark.parametrize(
    'line',
    [
        'null',
        'NaN',
        '{}',
        '[]',
        '[' * 100_000,
        '"\\ud800"',
        '[[], [], []]',
        json.dumps([[STATE], [ROW], [['a']]]),
        json.dumps([[STATE], [[1, *ROW[1:]]], []]),
        json.dumps([[STATE], [[*ROW[:2], '../../../mine.png', *ROW[3:]]], []]),
        json.dumps([[STATE], [[*ROW[:2], 5, *ROW[3:]]], []]),
        json.dumps([[STATE], [[*ROW[:2], None, *ROW[3:]]], []]),
        json.dumps([[[*STATE[:3]]], [ROW], []]),
        json.dumps([[['id', 'x', 2, 'ab']], [ROW], []]),
    ],
)
def test_a_damaged_journal_is_an_error_and_removes_nothing(source, tmp_path, capsys, line):
    assert prepare(source, tmp_path / 'out') == 0
    write_png(tmp_path / 'mine.png', frame(7))
    journal = tmp_path / 'out' / '.x.journal'
    with journal.open('a') as file:
        file.write(line + '\n')
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    capsys.readouterr()
    assert prepare(source, tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert '.x.journal line 6' in error
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('content', [b'', b'\xff\xfe\n', b'null\n', b'[' * 100_000 + b'\n'])
def test_a_journal_of_something_else_is_an_error(source, tmp_path, capsys, content):
    assert prepare(source, tmp_path / 'out') == 0
    (tmp_path / 'out' / '.x.journal').write_bytes(content)
    assert prepare(source, tmp_path / 'out') == 2
    assert '.x.journal' in capsys.readouterr().err
