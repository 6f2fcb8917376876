"""Names of files may hold any byte but two: what is refused early, what is stored and printed readably."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.prepare.trees import SIZE, coco_entry, frame, write_coco, write_pairs, write_png, write_voc
from vasomim.cli import main
from vasomim.frames.images import read_grey
from vasomim.prepare.pool import read_manifest
from vasomim.prepare.prepared import read_split

LATIN_1 = os.fsdecode(b'Gr\xf6\xdfe_1')


def rename(folder: Path, old: str, new: str) -> None:
    for path in list(folder.rglob(f'{old}.*')):
        path.rename(path.with_name(new + path.suffix))


BAD_NAMES = ['a\n_1', 'a\r_1', 'a\u2028_1', 'a\x0b_1', LATIN_1]


@pytest.mark.parametrize(
    ('kind', 'name'),  # JSON cannot hold the last one: its image is one without an entry.
    [*((kind, name) for kind in ('pairs', 'voc') for name in BAD_NAMES), *(('coco', name) for name in BAD_NAMES[:-1])],
)
def test_names_that_lists_cannot_hold_are_refused_before_a_frame_is_read(tmp_path, capsys, name, kind):
    source = tmp_path / 'own'
    if kind == 'pairs':
        write_pairs(source, ['x_1', 'b_1'])
    elif kind == 'voc':
        write_voc(source, ['x_1', 'b_1'])
    else:
        write_png(source / 'images' / 'x_1.png', frame(1))
        entry = {'id': 1, 'file_name': f'{name}.png', 'width': SIZE, 'height': SIZE}
        write_coco(source / 'train.json', [entry], [coco_entry(1, 1, 1, 2, 2, 4)], {1: 'lesion'})
    rename(source, 'x_1', name)
    for path in source.rglob('*.png'):
        path.write_bytes(b'no image: would be an error of its own')
    assert main('prepare', ['downstream', 'folder', str(source), str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert "the frame's name" in error and 'Traceback' not in error
    assert len(error.splitlines()) == 2
    assert not (tmp_path / 'out').exists()


def test_names_that_are_too_long_are_refused_before_a_frame_is_read(tmp_path, capsys):
    write_png(tmp_path / 'own' / 'images' / ('p' * 200) / f'{"i" * 100}.png', frame(1))
    entry = {'id': 1, 'file_name': f'{"p" * 200}/{"i" * 100}.png', 'width': SIZE, 'height': SIZE}
    write_coco(tmp_path / 'own' / 'train.json', [entry], [coco_entry(1, 1, 1, 2, 2, 4)], {1: 'lesion'})
    assert main('prepare', ['downstream', 'folder', str(tmp_path / 'own'), str(tmp_path / 'out')]) == 2
    assert '305 bytes' in capsys.readouterr().err


def test_a_class_needs_a_name_that_fits_into_a_line(tmp_path, capsys):
    pairs = write_pairs(tmp_path / 'pairs', ['a_1', 'b_1'])
    for label in ('a\nb', os.fsdecode(b'\xff')):
        assert main('prepare', ['downstream', 'folder', str(pairs), str(tmp_path / 'out'), '--class', label]) == 2
        assert '--class' in capsys.readouterr().err


NAMES = {
    'latin': f'{LATIN_1}.png',
    'line': 'a\nb_1.png',
    'formula': "=cmd|' C calc'!A0_1.png",
    'plus': '+1_1.png',
    'minus': '-1_1.png',
    'at': '@SUM(1)_1.png',
    'quoted': "'=1_1.png",
    'escape': '\x1b[31mred_1.png',
    'bidi': '\u202egnp_1.png',
    'long': f'{"x" * 240}_1.png',
}


def test_frames_of_every_name_arrive_and_are_listed_readably(tmp_path, capsys):
    """Each in a folder of its name, which is the patient."""
    source = tmp_path / 'own'
    for k, name in enumerate(NAMES.values()):
        write_png(source / 'frame.png', frame(k))
        (source / name[:-4]).mkdir()
        (source / 'frame.png').rename(source / name[:-4] / name)
    bad = source / '\x1b[31mbad\n_1.png'
    bad.write_bytes(b'')
    options = ['--held-out', '0.3', '--leave-out', os.fsdecode(b'*\xe4*')]
    assert main('prepare', ['pretrain', 'syntax', str(source), str(tmp_path / 'out'), *options]) == 1
    printed = capsys.readouterr()
    assert '\\x1b[31mbad\\n_1.png' in printed.out
    assert not any(character in printed.out + printed.err for character in ('\x1b', '\u202e', '\udcf6'))
    damaged = json.loads((tmp_path / 'out' / 'syntax.json').read_text(encoding='utf-8'))['damaged']
    assert [place for place, _ in damaged] == ['\\x1b[31mbad\\n_1.png']

    path = tmp_path / 'out' / 'syntax.csv'
    rows = read_manifest(path)
    places = {row['origin'].rpartition('/')[2]: row for row in rows}
    expected = {
        key: name.replace('\n', '\\n').replace('\x1b', '\\x1b').replace('\u202e', '\\u202e')
        for key, name in NAMES.items()
    }
    expected['latin'] = 'Gr\\xf6\\xdfe_1.png'
    assert set(places) == set(expected.values())
    for k, name in enumerate(expected.values()):
        assert places[name]['patient'] == name[:-4]
        file = places[name]['file']
        assert file.isascii() and file[0].isalnum() and len(file) < 256
        assert np.array_equal(read_grey(tmp_path / 'out' / 'syntax' / file), frame(k))
    with path.open(encoding='utf-8', newline='') as table:
        cells = [cell for row in csv.reader(table) for cell in row]
    assert not any(cell.startswith(('=', '+', '-', '@', '\t', '\r')) for cell in cells)
    assert sum(cell.startswith("'") for cell in cells) == 2 * 5  # Patient and path of the five like formulas.
    assert main('check', [str(tmp_path / 'out'), '--partial', '--jobs', '1']) == 0


def test_check_prints_names_readably(tmp_path, capsys):
    pairs = write_pairs(tmp_path / 'pairs', ['\x1b[31ma_1', 'b_1', 'c_1'])
    root = tmp_path / '[/bold]set'  # No markup of the progress bar.
    assert main('prepare', ['downstream', 'folder', str(pairs), str(root)]) == 0
    for split in ('train', 'val', 'test'):
        for name in read_split(root, split):
            (root / 'masks' / f'{name}.png').unlink()
    assert main('check', [str(root)]) == 1
    printed = capsys.readouterr().out
    assert '\\x1b[31ma_1.png' in printed and '\x1b' not in printed


def test_names_of_another_encoding_under_the_locale_c(tmp_path):
    """In a process of its own: Python decides at its start how it reads names."""
    write_png(tmp_path / 'own' / 'x.png', frame(1))
    (tmp_path / 'own' / 'x.png').rename(tmp_path / 'own' / f'{LATIN_1}.png')
    words = ['prepare', 'pretrain', 'folder', '--name', 'x', '--jobs', '1', tmp_path / 'own', tmp_path / 'out']
    environment = {**os.environ, 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}
    run = subprocess.run([sys.executable, '-m', 'vasomim', *words], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert [row['origin'] for row in read_manifest(tmp_path / 'out' / 'x.csv')] == ['Gr\\xf6\\xdfe_1.png']
