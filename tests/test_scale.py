"""The run of many frames: what it says of the memory of processes, and that it runs."""

from __future__ import annotations

import mmap
import os
import sys

import cv2
import numpy as np
import pytest
import scale

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='It reads /proc.')


def test_growth_is_that_between_the_second_and_the_last_quarter():
    steady = [scale.Sample(1, float(t), 900.0 if t < 10 else 500.0, 7.0) for t in range(101)]
    course = scale.course_of('train', 'main', steady)
    assert (course.growth, course.most, course.mapped, course.seconds) == (0, 900, 7, 100)
    growing = [scale.Sample(1, float(t), 500.0 + t, 0.0) for t in range(101)]
    assert scale.course_of('train', 'main', growing).growth == pytest.approx(50, abs=0.6)
    assert scale.course_of('train', 'main', growing[:5]) is None


def test_the_memory_of_this_process_is_found_in_its_session():
    def own() -> float:
        return next(sample.own for sample in scale.samples_of(os.getsid(0), 0.0) if sample.pid == os.getpid())

    before = own()
    # From the system itself: an array may get memory that this process has had before.
    with mmap.mmap(-1, 100_000_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(bytes(100_000_000))
        assert own() - before > 90


def test_frames_are_repeated_with_noise_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, 'DISTINCT', 2)
    scale.write_frames(tmp_path, 3, 32)
    first, second, third = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(tmp_path.iterdir()))
    assert first.shape == (32, 32)
    assert 0 < np.abs(first.astype(float) - third).mean() < 3 * scale.NOISE
    assert np.abs(first.astype(float) - second).mean() > np.abs(first.astype(float) - third).mean()


@pytest.mark.slow
def test_all_commands_run(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, 'DISTINCT', 2)
    courses, rates = scale.measure(tmp_path, 70, 64, interval=0.1)
    assert set(rates) == {'extract', 'pack', 'train'}
    assert all(rate > 0 for rate in rates.values())
    mains = {course.stage: course for course in courses if course.process == 'main'}
    assert mains['train'].most > 100
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()


def test_a_command_that_fails_names_its_log(tmp_path):
    with pytest.raises(RuntimeError, match=r'extract ended with status \d+; see .*extract\.log'):
        scale.watch('extract', ['extract', str(tmp_path / 'nowhere')], tmp_path / 'extract.log', 0.1)
    assert 'nowhere' in (tmp_path / 'extract.log').read_text()
