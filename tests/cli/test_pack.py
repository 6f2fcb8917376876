"""Packing by real processes: kills, full disks, damaged frames, other settings."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from vasomim.cli import main
from vasomim.data import PackedAngiograms
from vasomim.errors import DatasetError
from vasomim.frames.images import read_grey, read_mask

PROJECT = Path(__file__).parents[2]
WHOLE = [{'type': 'LoadAngiogram'}, {'type': 'LoadAnatomy'}, {'type': 'PackAngiogram'}]


def write_frames(root: Path, number: int, shape: tuple[int, int] = (40, 50)) -> None:
    rng = np.random.default_rng(number)
    for index in range(number):
        for folder, top in ((root, 256), (root.with_name(f'{root.name}_frangi'), 2)):
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, top, shape, dtype=np.uint8)
            cv2.imwrite(str(folder / f'{index}.png'), pixels if top == 256 else 255 * pixels)


def pack(*arguments: object) -> int:
    return main('pack', [str(argument) for argument in arguments])


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def index_of(root: Path) -> dict:
    return json.loads((root / 'packed.json').read_text())


@pytest.fixture
def frames(tmp_path) -> Path:
    write_frames(tmp_path / 'frames', 6)
    return tmp_path / 'frames'


def test_a_killed_run_continues_and_ends_with_the_same_bytes(tmp_path, capsys):
    source = tmp_path / 'frames'
    write_frames(source, 24, shape=(700, 720))  # Two frames fill a shard of 1 MiB.
    assert pack(source, tmp_path / 'whole', '--shard-size', 1) == 0
    command = [sys.executable, 'tools/pack_frames.py', source, tmp_path / 'killed', '--shard-size', '1', '--jobs', '1']
    # At the lowest priority, so that on a busy machine this test rather than that run gets its turn.
    command = ['nice', '-n', '19', *command]
    process = subprocess.Popen(list(map(str, command)), cwd=PROJECT, stdout=subprocess.DEVNULL)
    third = tmp_path / 'killed' / 'shard_00002.bin'
    deadline = time.monotonic() + 60
    while not third.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'It ended before the kill.'
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / 'killed').glob('shard_0000[01].bin')}
    assert len(times) == 2
    assert not (tmp_path / 'killed' / 'packed.json').exists() or not index_of(tmp_path / 'killed')['complete']
    assert pack(source, tmp_path / 'killed', '--shard-size', 1) == 0
    assert content(tmp_path / 'killed') == content(tmp_path / 'whole')
    assert all((tmp_path / 'killed' / name).stat().st_mtime_ns == when for name, when in times.items())
    assert len(index_of(tmp_path / 'whole')['shards']) == 24
    assert 'killed: 24 frames, 0.01 GB.' in capsys.readouterr().out


def test_a_full_disk_is_an_error_and_the_same_command_continues(tmp_path, capsys):
    source, out = tmp_path / 'frames', tmp_path / 'out'
    write_frames(source, 3, shape=(700, 720))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))  # Python ignores the signal, so that writing fails.
    try:
        assert pack(source, out, '--shard-size', 1) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert 'cannot be written: File too large' in said
    assert not list(out.iterdir())
    assert pack(source, out, '--shard-size', 1) == 0
    assert pack('--verify', out) == 0


def test_damaged_frames_and_maps_are_listed_and_left_out_on_demand(frames, tmp_path, capsys):
    out = tmp_path / 'out'
    (frames / '2.png').write_bytes(b'no image')
    (tmp_path / 'frames_frangi' / '2.png').unlink()  # Of such a frame `vasomim extract` makes no map.
    cv2.imwrite(str(tmp_path / 'frames_frangi' / '4.png'), np.zeros((9, 9), np.uint8))
    assert pack(frames, out) == 1
    said = capsys.readouterr().out
    assert '2 frames could not be packed' in said
    assert '2.png: damaged' in said
    assert '4.png: a map of 9 x 9 pixels for a frame of 50 x 40' in said
    assert set(index_of(out)['failed']) == {'2.png', '4.png'}
    assert pack(frames, out, '--skip-corrupt') == 0
    held_out = [PackedAngiograms(out, subset=subset, held_out=0.5) for subset in ('train', 'held_out')]
    names = [[Path(part.get_data_info(i)['img_path']).name for i in range(len(part))] for part in held_out]
    assert names == [['0.png', '1.png'], ['3.png', '5.png']]  # As if 2 and 4 were there.


def test_a_mended_frame_joins_in_its_place(frames, tmp_path):
    sound = (frames / '2.png').read_bytes()
    (frames / '2.png').write_bytes(b'no image')
    assert pack(frames, tmp_path / 'out') == 1
    (frames / '2.png').write_bytes(sound)
    assert pack(frames, tmp_path / 'out') == 0
    dataset = PackedAngiograms(tmp_path / 'out', pipeline=WHOLE)
    for index in range(6):
        np.testing.assert_array_equal(dataset[index]['inputs'][0].numpy(), read_grey(frames / f'{index}.png'))
    assert index_of(tmp_path / 'out')['failed'] == {}


def test_a_damaged_shard_is_found_and_made_again(frames, tmp_path, capsys):
    out = tmp_path / 'out'
    assert pack(frames, out) == 0
    before = content(out)
    shard = out / 'shard_00000.bin'
    shard.write_bytes(shard.read_bytes()[::-1])
    assert pack('--verify', out) == 1
    assert 'shard_00000.bin: changed since it was packed, in 6 frames (first: 0.png)' in capsys.readouterr().out
    shard.unlink()
    assert pack(frames, out) == 0
    assert content(out) == before
    assert pack('--verify', out) == 0


def test_frames_are_shortened_but_never_enlarged(tmp_path):
    write_frames(tmp_path / 'frames', 1, shape=(60, 120))
    assert pack(tmp_path / 'frames', tmp_path / 'small', '--size', 40) == 0
    assert pack(tmp_path / 'frames', tmp_path / 'same', '--size', 500) == 0
    sample = PackedAngiograms(tmp_path / 'small', pipeline=WHOLE)[0]
    assert sample['inputs'].shape == sample['data_samples'].anatomy.shape == (1, 20, 40)
    frame = read_grey(tmp_path / 'frames' / '0.png')
    assert abs(sample['inputs'].float().mean().item() - frame.mean()) < 2
    same = PackedAngiograms(tmp_path / 'same', pipeline=WHOLE)[0]
    np.testing.assert_array_equal(same['inputs'][0].numpy(), frame)
    anatomy = read_mask(tmp_path / 'frames_frangi' / '0.png')
    np.testing.assert_array_equal(same['data_samples'].anatomy[0].numpy(), anatomy)


def test_frames_alone_can_be_packed(frames, tmp_path, capsys):
    assert pack(frames, tmp_path / 'out', '--no-anatomy') == 0
    item = PackedAngiograms(tmp_path / 'out', anatomy='none', pipeline=WHOLE)[0]
    assert 'anatomy' not in item['data_samples']
    with pytest.raises(DatasetError, match='its frames were packed without anatomy'):
        PackedAngiograms(tmp_path / 'out')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (['--size', '20'], 'packed with size None instead of 20'),
        (['--no-anatomy'], 'packed with anatomy True instead of False'),
    ],
)
def test_other_settings_need_another_folder_or_overwrite(frames, tmp_path, capsys, change, message):
    assert pack(frames, tmp_path / 'out') == 0
    before = content(tmp_path / 'out')
    assert pack(frames, tmp_path / 'out', *change) == 2
    assert message in capsys.readouterr().err
    assert content(tmp_path / 'out') == before
    assert pack(frames, tmp_path / 'out', *change, '--overwrite') == 0
    assert content(tmp_path / 'out') != before


def test_frames_of_another_source_are_not_mixed_in(frames, tmp_path, capsys):
    assert pack(frames, tmp_path / 'out') == 0
    (frames / '5.png').unlink()
    assert pack(frames, tmp_path / 'out') == 2
    assert '1 of its frames are not in SRC (first: 5.png)' in capsys.readouterr().err


def test_what_the_error_of_missing_maps_says_can_be_typed(frames, tmp_path, capsys):
    shutil.rmtree(tmp_path / 'frames_frangi')
    assert pack(frames, tmp_path / 'out') == 2
    cure = capsys.readouterr().err.splitlines()[-1]
    assert cure == f'  `vasomim extract {frames} {frames}_frangi` makes them. --no-anatomy packs the frames alone.'
    assert pack(frames, tmp_path / 'alone', '--no-anatomy') == 0
    assert main('extract', cure.split('`')[1].split()[2:]) == 0
    assert pack(frames, tmp_path / 'out') == 0


def test_missing_maps_and_wrong_places_are_refused(frames, tmp_path, capsys):
    (tmp_path / 'frames_frangi' / '3.png').unlink()
    assert pack(frames, tmp_path / 'out') == 2
    assert '1 of 6 frames have no anatomy map' in capsys.readouterr().err
    assert pack(frames, frames / 'inside', '--no-anatomy') == 2
    assert 'lies in SRC' in capsys.readouterr().err
    (tmp_path / 'used').mkdir()
    (tmp_path / 'used' / 'letter.txt').write_text('mine')
    assert pack(frames, tmp_path / 'used', '--no-anatomy', '--overwrite') == 2
    assert 'holds something else (letter.txt)' in capsys.readouterr().err
    assert os.listdir(tmp_path / 'used') == ['letter.txt']


@pytest.mark.parametrize('option', ['--size', '--jobs', '--shard-size'])
def test_impossible_numbers_are_refused(frames, capsys, option):
    assert pack(frames, option, 0) == 2
    assert f'{option}: 0 is too small' in capsys.readouterr().err
