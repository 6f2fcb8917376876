"""Two runs in one place, full disks, forbidden places and odd names, verb by verb, with real files and processes."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.cli.test_train import ROOT, config, data, trained, write_config  # noqa: F401 - fixtures among them
from tests.finetuned import write_checkpoint
from vasomim.cli import main

LATIN = os.fsdecode(b'f\xfcr')  # Not UTF-8.
ONE_EPOCH = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.num_workers=0']


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('model') / 'model.pth')


@pytest.fixture(scope='module')
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp('boxes') / 'model.pth', 'stenosis/detection')


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def arguments(verb: str, frames: Path, target: Path, model: Path, config: str) -> list[str]:  # noqa: F811
    return {
        'train': [config, '--work-dir', str(target), *ONE_EPOCH],
        'predict': [str(model), str(frames), str(target)],
        'extract': [str(frames), str(target), '--jobs', '1'],
        'extract-features': [str(model), str(frames), str(target / 'f.npz')],
        'pack': [str(frames), str(target), '--no-anatomy'],
        'synthesize': [str(target), '--frames', '2', '--size', '64', '--jobs', '1'],
        'export': [str(model), str(target / 'm.onnx')],
    }[verb]


LOCKS = {
    'train': '.lock',
    'predict': '.lock',
    'extract': '.lock',
    'extract-features': '.f.npz.lock',
    'pack': '.lock',
    'synthesize': '.synthesis/.lock',
}


@pytest.mark.parametrize('verb', LOCKS)
def test_a_second_run_in_one_place_is_refused_and_changes_nothing(verb, data, model, config, tmp_path, capsys):  # noqa: F811
    target = tmp_path / 'target'
    lock = target / LOCKS[verb]
    lock.parent.mkdir(parents=True)
    with open(lock, 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # As another process has it; the kernel tells open files apart, not processes.
        before = digests(target)
        assert main(verb, arguments(verb, data / 'frames', target, model, config)) == 2
        assert str(target) in capsys.readouterr().err
        assert digests(target) == before
    assert main(verb, arguments(verb, data / 'frames', target, model, config)) == 0


def test_two_trainings_and_a_kill(data, config, tmp_path, capsys):  # noqa: F811
    """A second training, also with --overwrite, is refused; the place of one that was killed is free at once."""
    run = tmp_path / 'run'
    command = [sys.executable, '-m', 'vasomim', 'train', config, '--work-dir', str(run)]
    command += ['--cfg-options', 'train_cfg.max_epochs=1000']  # With a loader's worker.
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    with open(tmp_path / 'log', 'w') as log:
        first = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not (run / 'epoch_1.pth').exists():
            assert time.monotonic() < deadline and first.poll() is None, (tmp_path / 'log').read_text()
            time.sleep(0.1)
        for option in ('--overwrite', '--resume'):
            assert main('train', [config, '--work-dir', str(run), option]) == 2
            assert f'StorageError: {run}' in capsys.readouterr().err
        assert (run / 'epoch_1.pth').exists() and first.poll() is None
    finally:
        first.kill()
        first.wait()
    last = max(int(path.stem[6:]) for path in run.glob('epoch_*.pth'))
    (run / '.epoch_9.pth.1.2.part').write_bytes(b'of the killed one')
    options = ['--resume', '--cfg-options', f'train_cfg.max_epochs={last + 1}']
    assert main('train', [config, '--work-dir', str(run), *options]) == 0
    assert (run / f'epoch_{last + 1}.pth').exists() and not list(run.glob('.*.part'))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', str(folder)], check=False)
    if mounted.returncode:
        pytest.skip('no right to mount a small disk')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(disk: Path, free: int) -> None:
    descriptor = os.open(disk / 'filling', os.O_WRONLY | os.O_CREAT)
    size = 0
    try:
        while True:
            size += os.write(descriptor, bytes(4096))
    except OSError:
        os.ftruncate(descriptor, max(0, size - free))
    finally:
        os.close(descriptor)


def decodes(path: Path) -> bool:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is not None


@pytest.mark.parametrize(
    ('verb', 'free'),
    [('extract-features', 0), ('export', 16384), ('predict', 20480), ('extract', 8192), ('pack', 8192)],
)
def test_a_full_disk_leaves_what_was_there_and_nothing_by_halves(verb, free, data, model, config, disk, capsys):  # noqa: F811
    frames, target, second = data / 'frames', disk / 'first', disk / 'second'
    target.mkdir()
    assert main(verb, arguments(verb, frames, target, model, config)) == 0
    before = digests(target)
    fill(disk, free)
    again = target if verb in ('extract-features', 'export') else second
    assert main(verb, arguments(verb, frames, again, model, config)) == 2
    assert 'StorageError' in capsys.readouterr().err
    assert digests(target) == before
    assert all(decodes(path) for path in disk.rglob('*.png'))
    assert not [path for path in disk.rglob('*') if path.name.endswith('.part')]
    os.truncate(disk / 'filling', 0)
    assert main(verb, arguments(verb, frames, again, model, config)) == 0


def test_a_full_disk_keeps_the_last_checkpoint_of_a_training(trained, config, disk, capsys):  # noqa: F811
    run = disk / 'run'
    run.mkdir()
    shutil.copy(trained / 'epoch_2.pth', run)
    before = digests(run)
    fill(disk, (run / 'epoch_2.pth').stat().st_size // 2)
    assert main('train', [config, '--work-dir', str(run), '--resume']) == 2
    assert 'No space left' in capsys.readouterr().err
    assert digests(run).items() >= before.items()
    os.truncate(disk / 'filling', 0)
    assert main('train', [config, '--work-dir', str(run), '--resume']) == 0


@pytest.mark.parametrize('verb', [*LOCKS, 'export'])
@pytest.mark.parametrize('place', ['file', 'file/below', 'n' * 300, '/proc/nothing'])
def test_a_forbidden_place_is_an_error_before_any_work(verb, place, data, model, config, tmp_path, capsys):  # noqa: F811
    (tmp_path / 'file').touch()
    assert main(verb, arguments(verb, data / 'frames', tmp_path / place, model, config)) == 2
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err and place[:200] in captured.err
    assert 'matched' not in captured.out  # No checkpoint was loaded for nothing.
    assert ('Free some space' in captured.err) is False


def test_a_read_only_disk(data, model, config, disk, capsys):  # noqa: F811
    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
    for verb in [*LOCKS, 'export']:
        assert main(verb, arguments(verb, data / 'frames', disk / 'x', model, config)) == 2
        assert 'Read-only file system' in capsys.readouterr().err


@pytest.mark.parametrize('seed', ['-1', str(2**32), 'x'])
def test_seeds_out_of_range(seed, trained, data, config, tmp_path, capsys):  # noqa: F811
    frames = str(data / 'frames')
    for verb, given in {
        'train': [config, '--work-dir', str(tmp_path / 'run')],
        'visualize': [str(trained / 'epoch_4.pth'), frames, str(tmp_path / 'a.png')],
        'synthesize': [str(tmp_path / 's')],
        'extract-features': [str(trained / 'epoch_4.pth'), frames, str(tmp_path / 'f.npz')],
    }.items():
        assert main(verb, [*given, f'--seed={seed}']) == 2
        assert '--seed' in capsys.readouterr().err
    assert {path.suffix for path in tmp_path.iterdir()} == {'.py'}


@pytest.mark.parametrize('device', ['gpu9', 'cuda:77', 'meta'])
def test_a_device_that_is_not_there(device, data, model, tmp_path, capsys):  # noqa: F811
    for verb, target in (('predict', tmp_path / 'p'), ('extract-features', tmp_path / 'f.npz')):
        assert main(verb, [str(model), str(data / 'frames'), str(target), '--device', device]) == 2
        assert 'ConfigError: --device' in capsys.readouterr().err


@pytest.fixture
def latin(data: Path, tmp_path: Path) -> str:  # noqa: F811
    """Frames and maps whose names, and whose folder's, hold Latin-1, an escape sequence or a line break."""
    root = f'{tmp_path}/{LATIN}'
    for folder in ('frames', 'frames_frangi'):
        os.makedirs(f'{root}/{folder}')
        source = data / ('frames' if folder == 'frames' else 'anatomy')
        for index, path in enumerate(sorted(source.iterdir())):
            prefix = (LATIN, '\x1b[31m', 'n\nl', 'ü')[index % 4]
            shutil.copy(path, f'{root}/{folder}/{prefix}{path.name}')
    return root


@pytest.mark.parametrize('locale', [{}, {'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}])
def test_a_training_on_names_that_are_not_utf8(latin, config, tmp_path, locale):  # noqa: F811
    """In a process of its own: OpenCV used to die of such a name at the first picture."""
    os.truncate(sorted(Path(latin, 'frames').iterdir())[0], 10)  # Skipped, and listed.
    work = tmp_path / 'run'
    options = ['train_cfg.max_epochs=2', 'train_dataloader.dataset.skip_corrupt=True']
    options += ['val_dataloader.dataset.skip_corrupt=True', 'custom_hooks.0.interval=1']
    command = [sys.executable, '-m', 'vasomim', 'train', config, '--data', f'{latin}/frames', '--work-dir', str(work)]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), **locale}
    done = subprocess.run(
        [os.fsencode(each) for each in [*command, '--cfg-options', *options]],
        env=environment,
        capture_output=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert b'\x1b[31m' not in done.stdout and b'Logging error' not in done.stderr and b'Encode' not in done.stderr
    assert all(decodes(work / 'figures' / f'epoch_{epoch}.png') for epoch in (1, 2))
    assert len((work / 'skipped_frames.txt').read_text(encoding='utf-8').splitlines()) == 1
    for path in work.rglob('*'):
        if path.suffix in ('.log', '.json', '.txt', '.py'):
            path.read_text(encoding='utf-8')


def test_other_verbs_on_names_that_are_not_utf8(latin, trained, boxes, model, tmp_path, capsys):  # noqa: F811
    frames = f'{latin}/frames'
    assert main('visualize', [str(trained / 'epoch_4.pth'), frames, f'{latin}/pictures', '--num', '15']) == 0
    assert len(list(Path(latin, 'pictures').iterdir())) == 15
    assert main('predict', [str(boxes), frames, f'{latin}/predicted']) == 0
    content = json.loads(Path(latin, 'predicted', 'boxes.json').read_bytes().decode())
    names = sorted(image['file_name'] for image in content['images'])
    assert len(names) == 15 and all(name.isprintable() for name in names)
    json.dumps(content, ensure_ascii=False).encode()  # No half of a surrogate pair.
    assert main('extract-features', [str(model), frames, f'{latin}/f.npz']) == 0
    assert sorted(np.load(os.fsencode(f'{latin}/f.npz'))['names'].tolist()) == names
    assert main('extract', [frames, f'{latin}/maps', '--jobs', '1']) == 0
    json.loads(Path(latin, 'maps', 'extract_report.json').read_bytes().decode())
    assert '\x1b[31m' not in capsys.readouterr().out


def test_a_work_directory_that_is_not_utf8(config, tmp_path, capsys):  # noqa: F811
    assert main('train', [config, '--work-dir', f'{tmp_path}/{LATIN}', *ONE_EPOCH]) == 2
    assert '\\xfc' in capsys.readouterr().err


def test_bad_frames_are_listed_and_the_others_follow(trained, boxes, tmp_path, capsys):  # noqa: F811
    frames = tmp_path / 'frames'
    frames.mkdir()
    random = np.random.RandomState(0)
    for name, shape in {'a': (70, 70), 'flat': (1, 3000), 'z': (64, 80)}.items():
        cv2.imwrite(str(frames / f'{name}.png'), random.randint(0, 255, shape).astype(np.uint8))
    assert main('predict', [str(boxes), str(frames), str(tmp_path / 'p')]) == 1
    assert 'flat.png' in capsys.readouterr().out
    images = json.loads((tmp_path / 'p' / 'boxes.json').read_text())['images']
    assert [image['file_name'] for image in images] == ['a.png', 'z.png']
    (frames / 'flat.png').write_bytes(b'damaged')
    assert main('visualize', [str(trained / 'epoch_4.pth'), str(frames), str(tmp_path / 'v')]) == 1
    assert 'flat.png' in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / 'v').iterdir()) == ['a.png', 'z.png']


def test_results_keep_to_the_umask(data, model, config, tmp_path):  # noqa: F811
    before = os.umask(0o077)
    try:
        for verb in ('train', 'predict', 'extract-features', 'export', 'pack'):
            assert main(verb, arguments(verb, data / 'frames', tmp_path / verb, model, config)) == 0
    finally:
        os.umask(before)
    loose = [path for path in tmp_path.glob('*/**/*') if path.stat().st_mode & 0o077]
    assert not loose


DAMAGES: dict[str, bytes] = {
    'cut': b'{"filter": ',
    'nan': b'{"filter": NaN}',
    'list': b'[]',
    'null': b'null',
    'deep': b'[' * 100000,
    'latin': b'{"filter": "\xfc"}',
    'surrogate': b'{"filter": "\\udc80"}',
    'other': b'{"filter": "none", "sigmas": "x", "percentile": null, "border": []}',
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_damaged_json_that_is_read_back(damage, data, tmp_path, capsys):  # noqa: F811
    frames = str(data / 'frames')
    (tmp_path / 'maps').mkdir()
    (tmp_path / 'maps' / 'extract_settings.json').write_bytes(DAMAGES[damage])
    assert main('extract', [frames, str(tmp_path / 'maps')]) == 2
    assert 'extract_settings.json' in capsys.readouterr().err
    (tmp_path / 's' / '.synthesis').mkdir(parents=True)
    (tmp_path / 's' / '.synthesis' / 'settings.json').write_bytes(DAMAGES[damage])
    assert main('synthesize', [str(tmp_path / 's'), '--frames', '1']) == 2
    assert str(tmp_path / 's') in capsys.readouterr().err


@pytest.mark.parametrize('damage', [name for name in DAMAGES if name != 'other'])
def test_damaged_labels(damage, data, model, tmp_path, capsys):  # noqa: F811
    for name, content in (('sides.json', DAMAGES[damage]), ('labels.csv', b'name,label\n"' + DAMAGES[damage] + b'\0')):
        (tmp_path / name).write_bytes(content)
        target = str(tmp_path / 'f.npz')
        assert (
            main('extract-features', [str(model), str(data / 'frames'), target, '--labels', str(tmp_path / name)]) == 2
        )
        assert 'DatasetError' in capsys.readouterr().err
        assert not (tmp_path / 'f.npz').exists()


def test_names_that_spreadsheets_take_for_formulas(tmp_path):
    from vasomim.evaluation.cases import measure_case, write_cases

    mask = np.eye(4, dtype=np.uint8)
    names = ['=1+1.png', '+a.png', '-b.png', '@c.png', 'plain.png', f'{LATIN}.png']
    cases = [measure_case(str(tmp_path / name), mask, mask) for name in names]
    write_cases(tmp_path / 'cases.csv', cases, ['vessel'], {})
    with (tmp_path / 'cases.csv').open(encoding='utf-8', newline='') as file:
        written = [row['image'] for row in csv.DictReader(file)]
    assert written == ["'=1+1.png", "'+a.png", "'-b.png", "'@c.png", 'plain.png', 'f\\xfcr.png']
    write_cases(tmp_path / 'cases.json', cases, ['vessel'], {})
    assert json.loads((tmp_path / 'cases.json').read_text())['cases'][0]['image'] == '=1+1.png'
