from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vasomim.errors import DatasetError, StorageError
from vasomim.files import in_one_step, locked, read_json, read_regular, write_whole


def test_what_stood_there_stays_until_all_is_written(tmp_path: Path) -> None:
    path = tmp_path / 'new' / 'file.txt'
    write_whole(path, 'first')
    with pytest.raises(ZeroDivisionError), in_one_step(path) as unfinished:
        unfinished.write_text('half')
        assert path.read_text() == 'first'
        _ = 1 // 0
    assert path.read_text() == 'first' and os.listdir(path.parent) == ['file.txt']
    write_whole(path, b'second')
    assert path.read_bytes() == b'second' and os.listdir(path.parent) == ['file.txt']


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    code = (
        'import resource, signal, sys\n'
        'from vasomim.files import write_whole\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
        'write_whole(sys.argv[1], bytes(5000))\n'
    )
    done = subprocess.run([sys.executable, '-c', code, str(path)], capture_output=True, text=True)
    assert 'StorageError' in done.stderr and done.returncode != 0
    assert path.read_bytes() == b'old' and os.listdir(tmp_path) == ['file']


@pytest.mark.parametrize('umask', [0o022, 0o077, 0o002])
def test_files_are_as_private_as_the_user_wants_them(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / 'file', b'')
        with in_one_step(tmp_path / 'private') as unfinished:
            unfinished.write_bytes(b'')
            unfinished.chmod(0o600)  # As safetensors makes its files.
    finally:
        os.umask(before)
    for name in ('file', 'private'):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    write_whole(tmp_path / ('ä' * 127), b'content')
    assert os.listdir(tmp_path) == ['ä' * 127]
    with pytest.raises(StorageError, match='shorter') as found:
        write_whole(tmp_path / ('a' * 300), b'content')
    assert 'space' not in found.value.cure


@pytest.mark.parametrize(
    ('content', 'word'),
    [
        (b'', 'JSON'),
        (b'{"a": ', 'JSON'),
        (b'{"a": NaN}', 'NaN'),
        (b'{"a": -Infinity}', 'Infinity'),
        (b'{"a": 1e999}', '1e999'),
        (b'{"a": ' + b'[' * 200_000 + b']' * 200_000 + b'}', 'deep'),
        (b'{"a": "\\ud800"}', 'surrogate'),
        (b'{"\\udc00": 1}', 'surrogate'),
        ('{"a": "ä"}'.encode('latin-1'), 'UTF-8'),
        (b'null', 'object'),
        (b'[1]', 'object'),
        (b'{"a": ' + b'9' * 5000 + b'}', 'JSON'),
    ],
)
def test_damaged_json_is_told_with_its_file(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / 'file.json'
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=word) as found:
        read_json(path, DatasetError)
    assert found.value.where == path


def test_sound_json_is_read_as_python_reads_it(tmp_path: Path) -> None:
    content = {'a': [1, -2.5e-300, None, True, 'ä', '\U0001f600'], 'b\\u': {}}
    for text in (json.dumps(content), json.dumps(content, ensure_ascii=False)):
        for start in (b'', b'\xef\xbb\xbf'):
            (tmp_path / 'file.json').write_bytes(start + text.encode())
            assert read_json(tmp_path / 'file.json', DatasetError) == content


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'pipe')
    write_whole(tmp_path / 'file', bytes(100))
    for path in (tmp_path / 'pipe', Path('/dev/zero'), tmp_path, tmp_path / 'none', tmp_path / 'a\0b'):
        with pytest.raises(DatasetError):
            read_regular(path, DatasetError)
    with pytest.raises(DatasetError, match='100'):
        read_regular(tmp_path / 'file', DatasetError, most=99)
    assert read_regular(tmp_path / 'file', DatasetError, most=100) == bytes(100)


def test_a_lock_is_for_one_process_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / 'folder' / '.lock'
    code = (
        'import sys, time\n'
        'from vasomim.files import locked\n'
        "with locked(sys.argv[1], 'taken.', 'Wait.'):\n"
        "    print('held', flush=True)\n"
        '    time.sleep(60)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == 'held\n'
    with pytest.raises(StorageError, match='taken'), locked(path, 'taken.', 'Wait.'):
        raise AssertionError('the lock was given twice')
    process.kill()
    process.wait()
    with locked(path, 'taken.', 'Wait.'):
        assert path.is_file()
