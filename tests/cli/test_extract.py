"""The extraction of whole folders by real processes: trees, damage, stops and bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from vasomim.anatomy import extract_anatomy
from vasomim.cli import main
from vasomim.errors import DatasetError
from vasomim.files import read_json
from vasomim.frames.images import read_grey, read_mask

PROJECT = Path(__file__).parents[2]


def make_frame(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A noisy frame with a dark crooked stroke."""
    rng = np.random.default_rng(seed)
    frame = rng.normal(160, 6, shape)
    points = np.column_stack([np.linspace(0, shape[1], 6), rng.uniform(0.3, 0.7, 6) * shape[0]]).astype(np.int32)
    cv2.polylines(frame, [points], False, 70, 4)
    return np.clip(cv2.GaussianBlur(frame, None, 1), 0, 255).astype(np.uint8)


def write_frames(root: Path, *names: str, shape: tuple[int, int] = (96, 128)) -> None:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), make_frame(seed, shape))


def maps(root: Path) -> dict[str, bytes]:
    """All files below a folder but the report, with their content."""
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*') if path.is_file()}
    files.pop('extract_report.json', None)
    return files


def report(root: Path) -> dict:
    return json.loads((root / 'extract_report.json').read_text())


def extract(*arguments: object) -> int:
    return main('extract', [str(argument) for argument in arguments])


def test_the_tree_of_names_is_kept_and_each_map_is_that_of_its_frame(tmp_path, capsys):
    names = ['a/1.png', 'a/b/2.jpg', '3.bmp', 'c/4.webp', '5.tif']
    write_frames(tmp_path / 'frames', *names)
    assert extract(tmp_path / 'frames', tmp_path / 'maps', '--jobs', 2) == 0
    found = maps(tmp_path / 'maps')
    assert set(found) == {'a/1.png', 'a/b/2.png', '3.png', 'c/4.png', '5.png', 'extract_settings.json'}
    for name in names:
        stored = cv2.imread(str(tmp_path / 'maps' / Path(name).with_suffix('.png')), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored, 255 * extract_anatomy(read_grey(tmp_path / 'frames' / name)))
        assert stored.any()
    assert '5 maps made, 0 there already, 0 frames failed' in capsys.readouterr().out


def test_options_reach_the_extraction(tmp_path):
    write_frames(tmp_path / 'frames', '1.png')
    options = ['--filter', 'frangi', '--sigmas', '1.5,3', '--percentile', 85, '--border', 4]
    assert extract(tmp_path / 'frames', tmp_path / 'maps', *options) == 0
    expected = extract_anatomy(read_grey(tmp_path / 'frames/1.png'), 'frangi', (1.5, 3), 85, 4)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'maps/1.png'), -1), 255 * expected)
    settings = {'filter': 'frangi', 'sigmas': [1.5, 3.0], 'percentile': 85.0, 'border': 4}
    assert json.loads((tmp_path / 'maps/extract_settings.json').read_text()) == settings
    assert report(tmp_path / 'maps')['settings'] == settings


def test_damaged_frames_cost_only_themselves(tmp_path, capsys):
    frames = tmp_path / 'frames'
    write_frames(frames, *(f'{number}.{ending}' for number, ending in enumerate(['png', 'jpg', 'bmp'] * 6)))
    for name in ('0.png', '1.jpg', '2.bmp'):
        data = (frames / name).read_bytes()
        (frames / name).write_bytes(data[: len(data) // 2])
    (frames / '90.png').write_bytes(b'')
    cv2.imwrite(str(frames / '91.png'), np.zeros((50, 50), np.uint16))
    assert extract(frames, tmp_path / 'maps', '--jobs', 2) == 1
    assert set(report(tmp_path / 'maps')['failed']) == {'0.png', '1.jpg', '2.bmp', '90.png', '91.png'}
    assert report(tmp_path / 'maps')['made'] == 15
    assert len(maps(tmp_path / 'maps')) == 15 + 1
    output = capsys.readouterr().out
    assert '5 frames failed' in output
    assert f'{frames / "90.png"}: the file is empty.' in output

    write_frames(frames, '0.png', '1.jpg', '2.bmp', '90.png', '91.png')  # Mended.
    assert extract(frames, tmp_path / 'maps', '--jobs', 2) == 0
    assert (report(tmp_path / 'maps')['made'], report(tmp_path / 'maps')['already_there']) == (5, 15)


def test_frames_without_vessel_are_counted(tmp_path):
    write_frames(tmp_path / 'frames', '1.png')
    cv2.imwrite(str(tmp_path / 'frames/flat.png'), np.full((90, 90), 100, np.uint8))
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    assert report(tmp_path / 'maps')['made_without_vessel'] == ['flat.png']
    assert not cv2.imread(str(tmp_path / 'maps/flat.png'), -1).any()


def test_a_second_run_makes_nothing_again_unless_told_to(tmp_path):
    write_frames(tmp_path / 'frames', '1.png', '2.png')
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    marked = tmp_path / 'maps/1.png'
    right = marked.read_bytes()
    cv2.imwrite(str(marked), np.full((96, 128), 255, np.uint8))  # Sound, though not what would be extracted.
    other = marked.read_bytes()
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    assert marked.read_bytes() == other
    assert extract(tmp_path / 'frames', tmp_path / 'maps', '--overwrite') == 0
    assert marked.read_bytes() == right


def test_broken_maps_are_made_again_and_the_sound_ones_kept(tmp_path, capsys):
    frames, root = tmp_path / 'frames', tmp_path / 'maps'
    write_frames(frames, *(f'{number}.png' for number in range(6)))
    assert extract(frames, root) == 0
    right = maps(root)
    (root / '0.png').write_bytes(b'')
    (root / '1.png').write_bytes(right['1.png'][:-20])
    cv2.imwrite(str(root / '2.png'), np.full((96, 128), 100, np.uint8))
    cv2.imwrite(str(root / '3.png'), np.zeros((90, 128), np.uint8))
    (root / '4.png').unlink()
    kept = (root / '5.png').stat().st_mtime_ns
    capsys.readouterr()
    assert extract(frames, root) == 0
    assert maps(root) == right
    assert (root / '5.png').stat().st_mtime_ns == kept
    assert set(report(root)['broken']) == {f'{number}.png' for number in range(4)}
    assert '5 maps made, 1 there already, 0 frames failed' in capsys.readouterr().out
    assert '128 x 90 pixels for a frame of 128 x 96' in report(root)['broken']['3.png']


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (('--filter', 'frangi'), 'filter sato instead of frangi'),
        (('--sigmas', '2'), 'sigmas [1.0, 2.0, 3.0, 4.0] instead of [2.0]'),
        (('--percentile', '90'), 'percentile 92.0 instead of 90.0'),
        (('--border', '10'), 'border 20 instead of 10'),
    ],
)
def test_other_settings_on_the_same_destination_are_refused(tmp_path, capsys, option, message):
    write_frames(tmp_path / 'frames', '1.png')
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    before = maps(tmp_path / 'maps')
    assert extract(tmp_path / 'frames', tmp_path / 'maps', *option) == 2
    error = capsys.readouterr().err
    assert error.startswith('ConfigError:')
    assert message in error
    assert '--overwrite' in error
    assert maps(tmp_path / 'maps') == before
    assert extract(tmp_path / 'frames', tmp_path / 'maps', *option, '--overwrite') == 0
    assert maps(tmp_path / 'maps') != before


def test_missing_maps_are_made_as_the_others_were(tmp_path, capsys):
    write_frames(tmp_path / 'frames', '1.png', '2.png')
    assert extract(tmp_path / 'frames', tmp_path / 'maps', '--filter', 'contrast', '--border', '10') == 0
    before = maps(tmp_path / 'maps')
    (tmp_path / 'maps' / '2.png').unlink()
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    assert maps(tmp_path / 'maps') == before
    (tmp_path / 'maps' / 'extract_settings.json').write_text('{"filter": "sato"}')
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 2
    assert 'no settings of an extraction' in capsys.readouterr().err
    assert extract(tmp_path / 'frames', tmp_path / 'maps', '--filter', 'contrast', '--border', '10', '--overwrite') == 0
    assert maps(tmp_path / 'maps') == before


def test_of_a_published_set_only_the_missing_maps_are_made(tmp_path, capsys):
    write_frames(tmp_path, 'frames/1.png', 'frames/2.png')
    (tmp_path / 'maps').mkdir()
    cv2.imwrite(str(tmp_path / 'maps/1.png'), np.full((96, 128), 255, np.uint8))
    published = maps(tmp_path / 'maps')
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
    assert 'no extract_settings.json that says how they were made: they are kept' in capsys.readouterr().out
    found = maps(tmp_path / 'maps')
    assert set(found) == {'1.png', '2.png'}  # No settings are recorded that need not be those of the first map.
    assert found['1.png'] == published['1.png']


def test_without_destination_the_maps_lie_beside_the_frames(tmp_path):
    write_frames(tmp_path / 'frames', '1.png')
    assert extract(tmp_path / 'frames') == 0
    assert set(maps(tmp_path / 'frames_frangi')) == {'1.png', 'extract_settings.json'}


def test_the_root_of_the_merged_set_gets_its_published_layout(tmp_path):
    write_frames(tmp_path, 'syntax/1.png', 'cadica/p1_v1_00001.png', 'notes/1.png')
    assert extract(tmp_path, '--suffix', '_vessels') == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'cadica', 'cadica_vessels', 'notes', 'notes_vessels', 'syntax', 'syntax_vessels',
    ]  # fmt: skip
    assert (tmp_path / 'cadica_vessels/p1_v1_00001.png').exists()
    assert extract(tmp_path, '--suffix', '_vessels') == 0  # Maps are not taken for frames.
    assert report(tmp_path / 'syntax_vessels')['already_there'] == 1
    assert extract(tmp_path, '--suffix', '_frangi') == 0
    assert extract(tmp_path, '--suffix', '_vessels') == 0  # Nor are those of other suffixes.
    assert not list(tmp_path.glob('*_*_*'))


def test_a_destination_inside_the_source_is_not_a_source(tmp_path):
    write_frames(tmp_path, '1.png', 'a/2.png')
    for made in (2, 0):
        assert extract(tmp_path, tmp_path / 'maps') == 0
        assert report(tmp_path / 'maps')['made'] == made
    assert set(maps(tmp_path / 'maps')) == {'1.png', 'a/2.png', 'extract_settings.json'}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('missing',), 'missing: this folder does not exist.'),
        (('frames/1.png',), 'this is a file, not a folder.'),
        (('empty', 'maps'), 'the folder is empty.'),
        (('other', 'maps'), 'no image here, but 1 other files (.npz: 1)'),
        (('frames', 'frames'), 'maps here would overwrite the frames.'),
        (('frames', '--suffix', ''), 'with an empty one the maps would overwrite the frames.'),
        (('twins', 'maps'), '1.jpg and 1.png differ in their endings only'),
        (('frames', 'maps', '--sigmas', '1;2'), "'1;2' is not a list of numbers."),
        (('frames', 'maps', '--sigmas', '0'), 'sigmas are one or more finite widths'),
        (('frames', 'maps', '--percentile', '101'), 'percentile lies between 0 and 100'),
        (('frames', 'maps', '--border', '-1'), 'border is a width'),
        (('frames', 'maps', '--jobs', '0'), '0 processes cannot work.'),
        (('frames', 'file/maps'), 'cannot be written'),
    ],
)
def test_bad_input_names_what_and_the_cure(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path, 'frames/1.png', 'twins/1.png', 'twins/1.jpg')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/a.npz').touch()
    (tmp_path / 'file').touch()
    assert extract(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 2  # What is wrong, and the cure: no traceback.
    assert not (tmp_path / 'maps').exists()


def running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='Looks for child processes in /proc.')
def test_a_run_that_was_killed_continues_to_the_same_tree(tmp_path):
    frames = tmp_path / 'frames'
    write_frames(frames, *(f's{number % 3}/{number}.png' for number in range(64)), shape=(400, 400))
    command = [sys.executable, str(PROJECT / 'tools/extract_anatomy.py'), str(frames)]
    environment = {**os.environ, 'PYTHONPATH': str(PROJECT)}

    killed = tmp_path / 'killed'
    process = subprocess.Popen([*command, str(killed), '--jobs', '2'], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(killed.rglob('*.png'))) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    children = [int(pid) for pid in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) >= 2
    while any(map(running, children)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(running, children))
    made = len(list(killed.rglob('*.png')))
    assert 10 <= made < 64

    assert subprocess.run([*command, str(killed)], env=environment, stdout=subprocess.DEVNULL).returncode == 0
    assert report(killed)['already_there'] == made
    assert extract(frames, tmp_path / 'undisturbed') == 0
    assert maps(killed) == maps(tmp_path / 'undisturbed')


def test_frames_of_any_name_get_their_maps_and_stand_in_the_report(tmp_path, capsys):
    source, target = tmp_path / 'frames', tmp_path / 'maps'
    names = [b'caf\xe9.png', b'a\nb.png', b'tab\there.png', b'\xc3\xbc.png', b'u\xcc\x88.png', b'\x1b[31mred.png']
    source.mkdir()
    for name in names:
        (source / os.fsdecode(name)).write_bytes(cv2.imencode('.png', make_frame(1))[1].tobytes())
    for name in (b'bad\xe9.png', b'bad\n.png'):
        (source / os.fsdecode(name)).write_bytes(b'no image')
    assert extract(source, target, '--jobs', 1) == 1
    made = set(os.listdir(os.fsencode(target)))
    assert made == {*names, b'extract_settings.json', b'extract_report.json'}
    failed = read_json(target / 'extract_report.json', DatasetError)['failed']
    assert set(failed) == {'bad\\xe9.png', 'bad\\n.png'}
    said = capsys.readouterr().out
    assert 'bad\\xe9.png' in said and 'bad\\n.png' in said and '\x1b' not in said


def test_narrow_frames_pictures_of_other_kinds_and_pipes_cost_no_other_frame(tmp_path, capsys):
    source, target = tmp_path / 'frames', tmp_path / 'maps'
    write_frames(source, 'a.png', 'b.png')
    write_frames(source, 'narrow.png', shape=(1, 3000))
    (source / 'cine.gif').write_bytes(b'GIF89a')
    os.mkfifo(source / 'pipe.png')
    assert extract(source, target, '--jobs', 1) == 1
    said = capsys.readouterr().out
    assert 'cine.gif' in said and 'pipe.png: it is no regular file' in said
    assert sorted(path.name for path in target.glob('*.png')) == ['a.png', 'b.png', 'narrow.png']
    assert report(target)['made_without_vessel'] == ['narrow.png']


def test_the_map_of_a_turned_frame_is_kept_and_lies_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    frame = make_frame(3)
    (tmp_path / 'frames').mkdir()
    Image.fromarray(frame).save(tmp_path / 'frames/a.png', exif=exif)
    for kept in (0, 1):
        assert extract(tmp_path / 'frames', tmp_path / 'maps') == 0
        assert report(tmp_path / 'maps')['already_there'] == kept
    expected = extract_anatomy(np.ascontiguousarray(np.rot90(frame, -1)))
    np.testing.assert_array_equal(read_mask(tmp_path / 'maps/a.png'), expected)


@pytest.mark.parametrize(
    'content',
    [
        *('', 'null', '[]', '{"filter": NaN}', '[' * 100_000, '{"filter": "\\ud800"}', '{"filter": "sato"}'),
        '{"filter": "soto", "sigmas": [1], "percentile": 90, "border": 1}',
        '{"filter": "sato", "sigmas": "wide", "percentile": 90, "border": 1}',
        '{"filter": ["sato"], "sigmas": [1], "percentile": 90, "border": 1}',
        '{"filter": "sato", "sigmas": [1], "percentile": 190, "border": 1}',
        '{"filter": "sato", "sigmas": [1], "percentile": "many", "border": 1.5}',
    ],
    ids=lambda content: content[:40],
)
def test_damaged_settings_of_maps_are_an_error_with_their_name(tmp_path, capsys, content):
    write_frames(tmp_path / 'frames', 'a.png')
    (tmp_path / 'maps').mkdir()
    (tmp_path / 'maps/extract_settings.json').write_text(content)
    assert extract(tmp_path / 'frames', tmp_path / 'maps') == 2
    assert 'extract_settings.json: ' in capsys.readouterr().err
    assert extract(tmp_path / 'frames', tmp_path / 'maps', '--filter', 'sato', '--overwrite', '--jobs', 1) == 0
