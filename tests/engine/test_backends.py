"""Logs that fail do not end a training."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend

from vasomim.engine import PretrainRunner


@VISBACKENDS.register_module()
class FullDisk(BaseVisBackend):
    """Takes nothing."""

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir)
        self.calls = 0

    def _init_env(self) -> None:
        pass

    @property
    def experiment(self) -> FullDisk:
        return self

    def add_config(self, *args, **kwargs) -> None:
        raise OSError(28, 'No space left on device')

    def add_image(self, *args, **kwargs) -> None:
        raise OSError(28, 'No space left on device')

    def add_scalar(self, *args, **kwargs) -> None:
        raise OSError(28, 'No space left on device')

    def add_scalars(self, *args, **kwargs) -> None:
        self.calls += 1
        raise UnicodeEncodeError('utf-8', '\udcfc', 0, 1, 'surrogates not allowed')


def test_a_backend_that_fails_is_a_warning_once(toy, tmp_path, capsys):
    visualizer = {'type': 'Visualizer', 'vis_backends': [{'type': 'FullDisk'}, {'type': 'LocalVisBackend'}]}
    runner = PretrainRunner(**toy.config(tmp_path, epochs=2, visualizer=visualizer))
    runner.train()
    assert runner.epoch == 2
    assert runner.visualizer.get_backend('FullDisk').calls > 1
    assert capsys.readouterr().out.count('FullDisk.add_scalars failed') == 1
    assert list(tmp_path.rglob('scalars.json'))  # The other one has all.


LOG = """
import logging, sys
from vasomim.engine.backends import guard_files
logger = logging.getLogger('some')
logger.addHandler(logging.FileHandler(sys.argv[1]))
guard_files(logger)
for _ in range(3):
    logger.warning('f\\udcfcr')
"""


def test_a_log_file_takes_any_name_and_a_full_one_is_a_line(tmp_path: Path):
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2]), 'PYTHONIOENCODING': 'ascii'}
    for path, said in ((tmp_path / 'some.log', 0), (Path('/dev/full'), 1)):
        command = [sys.executable, '-c', LOG, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr.count('cannot be written') == said and 'Traceback' not in done.stderr
    assert (tmp_path / 'some.log').read_text(encoding='utf-8') == 'f\\udcfcr\n' * 3
