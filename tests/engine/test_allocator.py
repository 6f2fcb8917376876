"""Freed memory stays in the process: counted in page faults, in processes of their own."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vasomim.engine import allocator

FAULTS = """
import resource, runpy, sys, numpy
if sys.argv[2] == 'keep':
    assert runpy.run_path(sys.argv[1])['keep_freed_memory']()  # Alone, without the package's long imports.
def fill():
    for megabytes in (12, 20, 28):
        numpy.ones(megabytes * 2**20, numpy.uint8)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    command = [sys.executable, '-c', FAULTS, str(Path(allocator.__file__)), mode]
    # An environment without MALLOC_ variables, which would set the same for both.
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='other C libraries have no mallopt')
def test_freed_memory_is_used_again():
    assert faults('keep') < faults('leave') / 5
