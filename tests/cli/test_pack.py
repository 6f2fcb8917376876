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
from vasomim.errors import DatasetError, printable
from vasomim.files import LOCK, locked
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
    command = ['nice', '-n', '10', *command]
    process = subprocess.Popen(list(map(str, command)), cwd=PROJECT, stdout=subprocess.DEVNULL)
    third = tmp_path / 'killed' / 'shard_00002.bin'
    deadline = time.monotonic() + 300
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


@pytest.mark.parametrize('folder', ['frames', 'frames_frangi'])
def test_a_frame_or_map_that_was_replaced_by_one_of_its_size_and_date_is_read_again(tmp_path, folder):
    source, out = tmp_path / 'frames', tmp_path / 'out'
    rng = np.random.default_rng(0)
    for index in range(12):
        for where, top in ((source, 256), (tmp_path / 'frames_frangi', 2)):
            where.mkdir(exist_ok=True)
            pixels = rng.integers(0, top, (200, 400), dtype=np.uint8)
            cv2.imwrite(str(where / f'{index}.bmp'), pixels if top == 256 else 255 * pixels)
    for path in (tmp_path / 'frames_frangi').iterdir():
        path.rename(path.with_suffix('.png'))
    assert pack(source, out, '--shard-size', 1) == 0
    shards = {path.name: path.stat().st_mtime_ns for path in out.glob('*.bin')}
    assert len(shards) > 1
    changed = tmp_path / folder / ('7.bmp' if folder == 'frames' else '7.png')
    pixels = cv2.flip(cv2.imread(str(changed), cv2.IMREAD_UNCHANGED), 1)
    before = changed.stat()
    data = cv2.imencode('.bmp', pixels)[1].tobytes()
    assert len(data) == before.st_size
    changed.write_bytes(data)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert pack(source, out, '--shard-size', 1) == 0
    assert pack('--verify', out) == 0
    items = {Path(item['data_samples'].img_path).name: item for item in PackedAngiograms(out, pipeline=WHOLE)}
    for index in range(12):
        item = items[f'{index}.bmp']
        assert np.array_equal(item['inputs'][0], read_grey(source / f'{index}.bmp'))
        assert np.array_equal(item['data_samples'].anatomy[0], read_mask(tmp_path / f'frames_frangi/{index}.png'))
    kept = [name for name, changed in shards.items() if (out / name).stat().st_mtime_ns == changed]
    assert 0 < len(kept) < len(shards)


def test_files_that_were_copied_anew_leave_the_shards_alone(frames, tmp_path):
    out = tmp_path / 'out'
    assert pack(frames, out) == 0
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob('*.bin')}
    for path in [*frames.iterdir(), *(tmp_path / 'frames_frangi').iterdir()]:
        path.write_bytes(path.read_bytes())
    assert pack(frames, out) == 0
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.glob('*.bin')} == before


def test_a_second_source_of_the_same_names_does_not_mix_with_the_first(tmp_path):
    out = tmp_path / 'out'
    for name in ('one', 'two'):
        write_frames(tmp_path / name / 'frames', 5)
        if name == 'two':
            for path in (tmp_path / name / 'frames').iterdir():
                cv2.imwrite(str(path), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    for name in ('one', 'two'):
        assert pack(tmp_path / name / 'frames', out) == 0
        for item in PackedAngiograms(out, pipeline=WHOLE):
            frame = tmp_path / name / 'frames' / Path(item['data_samples'].img_path).name
            assert np.array_equal(item['inputs'][0], read_grey(frame))


def test_a_sound_frame_that_took_the_place_of_a_damaged_one_of_its_size_is_packed(frames, tmp_path):
    out, path = tmp_path / 'out', frames / '2.png'
    sound = path.read_bytes()
    before = path.stat()
    path.write_bytes(sound[:-60] + bytes(60))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert pack(frames, out, '--skip-corrupt') == 0
    assert set(index_of(out)['failed']) == {'2.png'}
    path.write_bytes(sound)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert pack(frames, out) == 0
    assert index_of(out)['failed'] == {}


@pytest.mark.parametrize('name', [b'caf\xe9.png', b'a\nb.png', b'a\xe2\x80\xa8b.png'])
def test_names_that_no_list_can_hold_are_refused_by_name(frames, tmp_path, capsys, name):
    for folder in (frames, tmp_path / 'frames_frangi'):
        (folder / '1.png').rename(os.fsdecode(os.fsencode(folder) + b'/' + name))
    assert pack(frames, tmp_path / 'out') == 2
    said = capsys.readouterr().err
    assert printable(os.fsdecode(name)) in said and said.count('\n') == 2
    assert not list((tmp_path / 'out').iterdir())


def test_pictures_of_other_kinds_are_told(frames, tmp_path, capsys):
    (frames / 'cine.gif').write_bytes(b'GIF89a')
    assert pack(frames, tmp_path / 'out') == 0
    assert 'cine.gif' in capsys.readouterr().out


def test_two_runs_do_not_pack_into_one_folder(frames, tmp_path, capsys):
    out = tmp_path / 'out'
    with locked(out / LOCK, 'held.', 'Wait.'):
        assert pack(frames, out) == 2
    assert 'writes here' in capsys.readouterr().err
    assert pack(frames, out) == 0


def test_what_a_killed_run_left_is_cleared_and_no_other_folder(frames, tmp_path):
    out = tmp_path / 'out'
    out.mkdir()
    for name in ('shard_00000.bin', 'shard_00001.bin.part', '.packed.json.77.0.part'):
        (out / name).write_bytes(b'half')
    assert pack(frames, out) == 0
    assert {path.name for path in out.iterdir()} == {'packed.json', 'shard_00000.bin'}
    assert pack('--verify', out) == 0
