"""One submission for all tests that need one."""

from __future__ import annotations

import pytest

from tests.benchmark.submission.made import Made, make


@pytest.fixture(scope='session')
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp('made'))
