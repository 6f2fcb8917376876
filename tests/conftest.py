"""Fixtures of all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_scope_left_behind() -> Iterator[None]:
    """Forget the default scope after each test: a runner sets it for the whole process, and look-ups depend on it."""
    yield
    if 'mmengine.registry' in sys.modules:
        sys.modules['mmengine.registry'].DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def project_root() -> Path:
    return Path(__file__).parents[1]


@pytest.fixture(scope='session')
def data_root() -> Path:
    """Real angiograms: the folder that VASOMIM_DATA names."""
    return folder_of('VASOMIM_DATA', 'real angiograms')


@pytest.fixture(scope='session')
def reference_root() -> Path:
    """Inputs and outputs of the reference implementation: the folder that VASOMIM_REFERENCE names."""
    return folder_of('VASOMIM_REFERENCE', 'the outputs of the reference implementation')


def folder_of(variable: str, content: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f'{variable} is not set; it names the folder with {content}.')
    path = Path(value)
    if not path.is_dir():  # Set but wrong: a skip would hide the slip.
        pytest.fail(f'{variable}={value}: no such folder.')
    return path
