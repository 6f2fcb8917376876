"""Extract, pack, synthesize, prepare and check as a Python user calls them: what they return, and leave on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import vasomim
from vasomim.anatomy import extract_anatomy
from vasomim.apis.extracting import REPORT_FILE
from vasomim.cli import main
from vasomim.errors import ConfigError, DatasetError
from vasomim.frames.images import read_grey

DAMAGED = 'p3_v1_00000.png'


@pytest.fixture(scope='module')
def frames(tmp_path_factory) -> Path:
    """Six frames of two patients, and a damaged file."""
    root = tmp_path_factory.mktemp('made') / 'frames'
    root.mkdir()
    for number in range(6):
        rng = np.random.default_rng(number)
        frame = rng.normal(160, 6, (72, 96))
        points = np.column_stack([np.linspace(0, 96, 6), rng.uniform(0.2, 0.8, 6) * 72]).astype(np.int32)
        cv2.polylines(frame, [points], False, 70, 4)
        path = root / f'p{number // 3 + 1}_v1_{number % 3:05d}.png'
        cv2.imwrite(str(path), np.clip(cv2.GaussianBlur(frame, None, 1), 0, 255).astype(np.uint8))
    (root / DAMAGED).write_bytes(b'no image')
    return root


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too, with their content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def command(verb: str, *arguments: object) -> int:
    return main(verb, [str(argument) for argument in arguments])


def test_extract_leaves_what_the_command_leaves_and_says_nothing(frames, tmp_path, capsys):
    done = vasomim.extract(frames, tmp_path / 'api', filter='frangi', sigmas=[2, 3], percentile=90, border=2, jobs=1)
    assert capsys.readouterr() == ('', '')
    options = ['--filter', 'frangi', '--sigmas', '2,3', '--percentile', 90, '--border', 2]
    assert command('extract', frames, tmp_path / 'cli', *options, '--jobs', 1) == 1  # One frame is damaged.
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    (folder,) = done.folders
    assert (folder.made, folder.kept, list(folder.failed), done.failed) == (6, 0, [DAMAGED], 1)
    assert (folder.source, folder.destination, folder.recorded) == (frames, tmp_path / 'api', True)
    expected = 255 * extract_anatomy(read_grey(frames / 'p1_v1_00000.png'), 'frangi', (2, 3), 90, 2)
    np.testing.assert_array_equal(read_grey(tmp_path / 'api' / 'p1_v1_00000.png'), expected)


def test_extract_again_mends_broken_maps_as_they_were_made_and_tells_of_each_folder(frames, tmp_path):
    vasomim.extract(frames, tmp_path / 'maps', percentile=80, jobs=1)
    before = tree(tmp_path / 'maps')
    (tmp_path / 'maps' / 'p1_v1_00001.png').write_bytes(b'cut short')
    told = []
    done = vasomim.extract(str(frames), str(tmp_path / 'maps'), jobs=1, finished=told.append)
    (folder,) = done.folders
    assert told == [folder]
    assert (folder.made, folder.kept, list(folder.broken)) == (1, 5, ['p1_v1_00001.png'])
    after = tree(tmp_path / 'maps')
    assert {name for name in after if after[name] != before[name]} == {REPORT_FILE}
    with pytest.raises(ConfigError, match='frangi'):
        vasomim.extract(frames, tmp_path / 'maps', filter='frangi')


@pytest.mark.parametrize(
    'wrong', [{'jobs': 0}, {'sigmas': [0]}, {'filter': 'none'}, {'percentile': 101}, {'suffix': ''}]
)
def test_extract_refuses_what_is_out_of_range_before_it_writes(frames, wrong):
    before = sorted(frames.parent.iterdir())
    with pytest.raises(ConfigError):
        vasomim.extract(frames, **wrong)
    assert sorted(frames.parent.iterdir()) == before


def test_pack_leaves_what_the_command_leaves_and_verify_finds_a_changed_byte(frames, tmp_path):
    vasomim.extract(frames, tmp_path / 'maps', jobs=1)
    wanted = {'anatomy': tmp_path / 'maps', 'size': 48, 'jobs': 1}
    packed = vasomim.pack(frames, tmp_path / 'api', **wanted)
    options = ['--anatomy', tmp_path / 'maps', '--size', 48, '--jobs', 1]
    assert command('pack', frames, tmp_path / 'cli', *options) == 1
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    assert (packed.frames, list(packed.failed), packed.complete) == (6, [DAMAGED], False)
    packed = vasomim.pack(frames, tmp_path / 'api', skip_corrupt=True, **wanted)
    (shard,) = (path for path in (tmp_path / 'api').iterdir() if path != packed.index)
    assert (packed.complete, packed.bytes) == (True, shard.stat().st_size)
    sound = vasomim.verify_pack(tmp_path / 'api')
    assert (sound.files, sound.damaged, sound.complete) == (1, [], True)
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    (line,) = vasomim.verify_pack(tmp_path / 'api', jobs=2).damaged
    assert shard.name in line
    with pytest.raises(ConfigError, match='size'):
        vasomim.pack(frames, tmp_path / 'api', **{**wanted, 'size': 0})


def test_synthesize_leaves_what_the_command_leaves(tmp_path):
    done = vasomim.synthesize(tmp_path / 'api', layout='folder', frames=3, seed=5, size=64, jobs=1, truth=True)
    options = ['--layout', 'folder', '--frames', 3, '--seed', 5, '--size', 64, '--jobs', 2, '--truth']
    assert command('synthesize', tmp_path / 'cli', *options) == 0
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    assert tree(tmp_path / 'api_truth') == tree(tmp_path / 'cli_truth') != {}
    assert (done.frames, done.written, done.kept) == (3, 3, 0)
    again = vasomim.synthesize(tmp_path / 'api', layout='folder', frames=3, seed=5, size=64, jobs=1)
    assert (again.written, again.kept) == (0, 3)


def test_prepare_pretrain_leaves_what_the_command_leaves(frames, tmp_path, capsys):
    options = {'name': 'mine', 'group': '^(p.)', 'held_out': 0.4, 'seed': 3, 'drop_similar': True, 'jobs': 1}
    done = vasomim.prepare_pretrain('folder', frames, tmp_path / 'api', leave_out=['p2_*2.png'], **options)
    assert capsys.readouterr() == ('', '')
    flags = ['--name', 'mine', '--group', '^(p.)', '--held-out', 0.4, '--seed', 3, '--drop-similar', '--jobs', 1]
    kinds = ['pretrain', 'folder', frames, tmp_path / 'cli', '--leave-out', 'p2_*2.png']
    assert command('prepare', *kinds, *flags) == 1
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    assert done.summary == json.loads(done.report.read_text())
    assert (done.summary['kept'], done.summary['patients'], done.complete, done.before) == (5, 2, False, False)
    assert len(list((tmp_path / 'api' / 'mine_frangi').glob('*.png'))) == 5


def test_an_archive_that_was_prepared_is_not_prepared_again(frames, tmp_path):
    archive = tmp_path / 'x.zip'
    names = sorted(path.name for path in frames.glob('p1*'))
    subprocess.run([sys.executable, '-m', 'zipfile', '-c', str(archive), *names], cwd=frames, check=True)
    first = vasomim.prepare_pretrain('xcad', archive, tmp_path / 'pool', jobs=1)
    second = vasomim.prepare_pretrain('xcad', archive, tmp_path / 'pool', jobs=1)
    assert (first.before, first.complete, second.before, second.complete) == (False, True, True, True)
    assert first.summary == second.summary
    assert not vasomim.prepare_pretrain('xcad', archive, tmp_path / 'pool', jobs=1, group='(.)').before


@pytest.mark.parametrize(
    ('kind', 'wrong', 'named'),
    [
        ('folders', {}, 'folder'),
        ('folder', {}, 'name'),
        ('folder', {'name': 'x', 'all_videos': True}, 'all_videos'),
        ('arcade', {'group': '.'}, 'group'),
        ('xcad', {'name': 'x'}, 'name'),
        ('xcad', {'filter': 'none'}, 'filter'),
        ('xcad', {'held_out': 1}, 'held-out'),
        ('xcad', {'threshold': 0}, 'threshold'),
    ],
)
def test_prepare_pretrain_refuses_options_that_a_kind_does_not_take(frames, tmp_path, kind, wrong, named):
    with pytest.raises(ConfigError, match=named):
        vasomim.prepare_pretrain(kind, frames, tmp_path / 'pool', **wrong)
    assert not (tmp_path / 'pool').exists()


def test_prepare_downstream_leaves_what_the_command_leaves(tmp_path, capsys):
    (tmp_path / 'src' / 'images').mkdir(parents=True)
    (tmp_path / 'src' / 'masks').mkdir()
    for patient in 'abcdefgh':
        for folder, level in (('images', 90), ('masks', 255)):
            pixels = np.zeros((32, 32), np.uint8)
            pixels[ord(patient) % 8 : 20, 5:9] = level
            cv2.imwrite(str(tmp_path / 'src' / folder / f'{patient}_1.png'), pixels)
    told = []
    wanted = {'seed': 2, 'val': 0.25, 'test': 0.25, 'group': '^(.)_', 'label': 'catheter'}
    done = vasomim.prepare_downstream('folder', tmp_path / 'src', tmp_path / 'api', **wanted, finished=told.append)
    assert capsys.readouterr() == ('', '')
    flags = ['--seed', 2, '--val', 0.25, '--test', 0.25, '--group', '^(.)_', '--class', 'catheter']
    assert command('prepare', 'downstream', 'folder', tmp_path / 'src', tmp_path / 'cli', *flags) == 0
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    (prepared,) = done.sets
    assert told == [prepared]
    assert (prepared.root, prepared.name) == (tmp_path / 'api', 'folder')
    assert prepared.frames == {'train': 4, 'val': 2, 'test': 2}
    assert json.loads((tmp_path / 'api' / 'dataset.json').read_text())['classes'] == ['catheter']


def test_prepare_downstream_simulates_first(tmp_path):
    options = {'frames': 8, 'size': 64, 'jobs': 1}
    (prepared,) = vasomim.prepare_downstream('synthetic', 'caxf', tmp_path / 'set', **options).sets
    assert sum(prepared.frames.values()) == 8
    assert (tmp_path / 'set_published').is_dir()


@pytest.mark.parametrize(
    ('kind', 'wrong', 'named'),
    [
        ('arcade', {'test': 0.2}, 'test'),
        ('xcav', {'label': 'x'}, 'label'),
        ('synthetic', {'group': '.'}, 'group'),
        ('arcad', {}, 'arcade'),
    ],
)
def test_prepare_downstream_refuses_options_that_a_kind_does_not_take(tmp_path, kind, wrong, named):
    source = 'caxf' if kind == 'synthetic' else tmp_path
    with pytest.raises((ConfigError, DatasetError), match=named):
        vasomim.prepare_downstream(kind, source, tmp_path / 'set', **wrong)
    assert not (tmp_path / 'set').exists()


def test_check_returns_what_the_command_prints(frames, tmp_path, capsys):
    vasomim.prepare_pretrain('folder', frames, tmp_path / 'pool', name='mine', jobs=1)
    sound = vasomim.check(tmp_path / 'pool', deep=True, jobs=1)
    assert capsys.readouterr().out == ''
    assert (sound.errors, sound.sets, sound.excluded) == ([], 1, None)
    assert DAMAGED in sound.warnings[0]
    (tmp_path / 'pool' / 'mine' / 'p1_v1_00002.png').unlink()
    found = vasomim.check([tmp_path / 'pool'], deep=True, jobs=1)
    assert len(found.errors) == 1 and 'p1_v1_00002.png' in found.errors[0]
    assert command('check', tmp_path / 'pool', '--deep', '--jobs', 1) == 1
    printed = capsys.readouterr().out
    assert all(line in printed for line in (*found.errors, *found.warnings, *found.notes))


def test_check_writes_the_same_list_of_exclusions(tmp_path):
    vasomim.prepare_downstream('synthetic', 'caxf', tmp_path / 'set', frames=8, size=64, jobs=1)
    found = vasomim.check(tmp_path / 'set', threshold=0.3, write_exclusions=tmp_path / 'api.json')
    command('check', tmp_path / 'set', '--threshold', 0.3, '--write-exclusions', tmp_path / 'cli.json')
    assert (tmp_path / 'api.json').read_bytes() == (tmp_path / 'cli.json').read_bytes()
    assert found.excluded == len(json.loads((tmp_path / 'api.json').read_text())['exclude'])
    with pytest.raises(ConfigError, match='threshold'):
        vasomim.check(tmp_path / 'set', threshold=1)
    with pytest.raises(DatasetError, match='nowhere'):
        vasomim.check(tmp_path / 'nowhere')


def test_the_package_imports_nothing_until_a_function_is_called():
    code = (
        'import sys, vasomim, vasomim.apis\n'
        'loaded = [name for name in ("numpy", "cv2", "rich", "torch", "mmengine", "argparse") if name in sys.modules]\n'
        'print(loaded, hasattr(vasomim, "nothing"), callable(vasomim.extract), callable(vasomim.benchmark.plan))\n'
        'print([name for name in ("torch", "mmengine", "argparse") if name in sys.modules])\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.split('\n')[0] == '[] False True True'
