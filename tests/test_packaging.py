"""What an installed package offers to a project elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import json
from vasomim import compat
compat.prepare()
import vasomim
from mmengine.config import Config
config = Config.fromfile('mine.py')
print(json.dumps({'package': vasomim.__file__, 'model': config.model.type, 'ratio': config.model.masking.ratio}))
"""


@pytest.fixture(scope='module')
def installed(project_root, tmp_path_factory) -> Path:
    """Install a wheel of a copy of the sources, so that the build leaves nothing in the project."""
    copy = tmp_path_factory.mktemp('sources')
    for name in ('setup.py', 'pyproject.toml', 'LICENSE'):
        shutil.copy(project_root / name, copy)
    for name in ('vasomim', 'configs', 'benchmark'):
        shutil.copytree(project_root / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    target = tmp_path_factory.mktemp('installed')
    options = ['--no-deps', '--no-build-isolation', '--no-index', '--target', str(target)]
    subprocess.run([sys.executable, '-m', 'pip', 'install', *options, str(copy)], check=True, capture_output=True)
    return target


def test_a_wheel_holds_every_config_and_every_weight(project_root, installed):
    configs = {path.relative_to(project_root) for path in (project_root / 'configs').rglob('*.py')}
    assert configs
    shipped = installed / 'vasomim' / '.mim'
    assert {path.relative_to(shipped) for path in shipped.rglob('*.py')} == configs
    assert not any(path.is_symlink() for path in (shipped, *shipped.rglob('*')))

    entries = {path.relative_to(project_root / 'benchmark') for path in (project_root / 'benchmark').rglob('*.yaml')}
    assert Path('tasks', 'arcade_v.yaml') in entries
    copied = shipped / 'benchmark'
    assert {path.relative_to(copied) for path in copied.rglob('*.yaml')} == entries

    weights = {path.name for path in (project_root / 'vasomim' / 'weights').glob('*.safetensors')}
    assert {path.name for path in (installed / 'vasomim' / 'weights').glob('*.safetensors')} == weights


@pytest.mark.parametrize('kind', ['installed', 'editable'])
def test_a_config_elsewhere_inherits_from_the_packages_own(kind, project_root, installed, tmp_path):
    root = installed if kind == 'installed' else project_root
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'vasomim::pretrain/vasomim.py'\nmodel = dict(masking=dict(ratio=0.625))\n"
    )
    environment = {**os.environ, 'PYTHONPATH': str(root)}
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', LOAD], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    answer = process.stdout.splitlines()[-1]
    assert f'"package": "{root}/vasomim/__init__.py"' in answer
    assert '"model": "MaskedImageModeling", "ratio": 0.625' in answer


def test_the_benchmark_elsewhere_finds_the_packages_own_entries(installed, tmp_path):
    code = 'from vasomim.benchmark.study.loading import load_entries; print(load_entries().protocol("smoke").origin)'
    environment = {**os.environ, 'PYTHONPATH': str(installed)}
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == str(installed / 'vasomim/.mim/benchmark/protocols/smoke.yaml')


def test_the_stack_is_chosen_when_the_package_is_built(project_root, tmp_path):
    def requirements(stack: str | None) -> str:
        environment = {key: value for key, value in os.environ.items() if key != 'VASOMIM_STACK'}
        if stack:
            environment['VASOMIM_STACK'] = stack
        command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(tmp_path)]
        process = subprocess.run(command, cwd=project_root, env=environment, capture_output=True, text=True)
        if process.returncode:
            return process.stderr
        return (tmp_path / 'vasomim_openmmlab.egg-info' / 'requires.txt').read_text()

    assert 'onedl-mmcv' in requirements(None)
    assert 'mmdet<4,>=3.3.0' in requirements('openmmlab')
    assert 'onedl' not in requirements('openmmlab')
    assert 'VASOMIM_STACK=mmlab: no such stack' in requirements('mmlab')
