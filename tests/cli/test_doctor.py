"""The doctor, in environments that are broken on purpose by what comes first on the search path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from vasomim.cli.doctor import BROKEN, NOTE, OK, Finding

ROOT = Path(__file__).parents[2]


def run(
    *arguments: str, paths: tuple[Path, ...] = (), python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """Run Python with these folders before its own; nothing else is on the search path but the project."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*map(str, paths), str(ROOT)]), 'COLUMNS': '60'}
    return subprocess.run([python, *arguments], env=environment, capture_output=True, text=True, check=False)


def check(name: str, *paths: Path) -> Finding:
    """Make one of the checks in a process of its own."""
    code = (
        'import dataclasses, json; from vasomim.cli import doctor; print(json.dumps(dataclasses.asdict(doctor.{}())))'
    )
    process = run('-c', code.format(name), paths=paths)
    assert process.returncode == 0, process.stderr
    return Finding(**json.loads(process.stdout))


def distribution(folder: Path, name: str, version: str = '1.0') -> None:
    """Make a package look installed."""
    metadata = folder / f'{name.replace("-", "_")}-{version}.dist-info' / 'METADATA'
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


@pytest.fixture(scope='module')
def here() -> dict[str, Finding]:
    """What the doctor says of the environment in which the tests run."""
    process = run(str(ROOT / 'tools' / 'doctor.py'), '--json')
    findings = [Finding(**finding) for finding in json.loads(process.stdout)]
    assert [finding for finding in findings if finding.state == BROKEN] == []
    assert process.returncode == 0
    return {finding.name: finding for finding in findings}


def test_what_is_found_agrees_with_the_libraries(here):
    import mmengine
    import torch
    import torchvision

    assert here['Python'].found.startswith('.'.join(map(str, sys.version_info[:3])))
    assert here['torch'].found == torch.__version__
    assert here['torchvision'].found.startswith(torchvision.__version__)
    assert f'mmengine {mmengine.__version__}' in here['stack'].found
    assert (here['GPU'].found == 'none; training runs on the CPU') == (not torch.cuda.is_available())
    assert here['libraries'].state == here['operators'].state == OK


def test_a_bare_python_gets_a_report_too(tmp_path):
    """Nothing is installed there, not even rich."""
    venv.create(tmp_path, with_pip=False, symlinks=True)
    bare = str(tmp_path / 'bin' / 'python')
    process = run('-m', 'vasomim', 'doctor', python=bare)
    assert process.returncode == 1
    assert "broken  torch        ModuleNotFoundError: No module named 'torch'" in process.stdout
    assert f'  {bare} -m pip install onedl-mmengine onedl-mmcv' in process.stdout
    assert 'Traceback' not in process.stdout + process.stderr


def test_the_table_shows_the_cures_in_full(tmp_path):
    (tmp_path / 'cv2.py').write_text('raise ImportError("libGL.so.1: cannot open shared object file")\n')
    process = run('-c', 'from vasomim.cli import doctor; doctor.show([doctor.opencv()])', paths=(tmp_path,))
    assert process.returncode == 0, process.stderr
    cure = next(line for line in process.stdout.splitlines() if 'opencv-python-headless' in line)
    assert cure.startswith(f'  {sys.executable} -m pip install --force-reinstall --no-deps')  # Wider than the terminal.
    assert 'apt-get install libgl1' in process.stdout


def test_a_missing_torch_is_a_finding_and_not_a_crash(tmp_path):
    (tmp_path / 'torch.py').write_text('raise ModuleNotFoundError("No module named \'torch\'", name="torch")\n')
    finding = check('torch', tmp_path)
    assert finding.state == BROKEN
    assert finding.found == "ModuleNotFoundError: No module named 'torch'"
    assert finding.cure == f'{sys.executable} -m pip install --force-reinstall torch torchvision'


@pytest.mark.parametrize(('available', 'state', 'cure'), [(True, OK, ''), (False, NOTE, 'install python-gdcm')])
def test_a_decoder_that_is_missing_is_named(available, state, cure, tmp_path):
    (tmp_path / 'pydicom').mkdir()
    (tmp_path / 'pydicom' / '__init__.py').write_text('')
    (tmp_path / 'pydicom' / 'uid.py').write_text(f'JPEGLosslessSV1, JPEGLSLossless = True, {available}\n')
    decoder = "def get_decoder(syntax): return type('Decoder', (), dict(is_available=syntax))\n"
    (tmp_path / 'pydicom' / 'pixels.py').write_text(decoder)
    finding = check('decoders', tmp_path)
    assert (finding.state, finding.cure.partition('pip ')[2]) == (state, cure)


TORCH = """
__version__ = '2.12.1'
class version: cuda = {cuda!r}
class cuda:
    def device_count(): return {devices}
    def get_device_properties(i): return type('Device', (), dict(name='Card', total_memory=8 << 30))
"""


@pytest.mark.parametrize(
    ('cuda', 'devices', 'driver', 'state', 'told'),
    [
        ('13.0', 1, True, OK, ''),
        ('13.0', 0, True, NOTE, 'PyTorch 2.12.1 here is built for CUDA 13.0;|Update the NVIDIA driver, or install the'),
        (None, 0, True, NOTE, 'PyTorch 2.12.1 here is built without CUDA;|Install the build for that CUDA'),
        ('13.0', 0, False, OK, ''),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_gets_a_word(cuda, devices, driver, state, told, tmp_path, monkeypatch):
    (tmp_path / 'torch.py').write_text(TORCH.format(cuda=cuda, devices=devices))
    (tmp_path / 'bin').mkdir()
    if driver:
        (tmp_path / 'bin' / 'nvidia-smi').write_text('#!/bin/sh\n')
        (tmp_path / 'bin' / 'nvidia-smi').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    finding = check('gpu', tmp_path)
    assert finding.state == state
    assert all(part in finding.cure for part in told.split('|')) and bool(finding.cure) == bool(told)
    assert 'pip install' not in finding.cure  # Unpinned, it would bring another PyTorch.
    assert finding.found.startswith('Card, 8 GiB' if devices else 'there is a driver' if driver else 'none')


def test_a_torchvision_that_does_not_match_is_found(tmp_path):
    (tmp_path / 'torchvision.py').write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    finding = check('torchvision', tmp_path)
    assert finding.state == BROKEN
    assert 'torchvision::nms does not exist' in finding.found
    assert finding.cure.endswith('--force-reinstall torch torchvision')


def test_two_stacks_in_one_environment_are_an_error_with_the_line_that_mends_it(tmp_path):
    onedl = ['onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmsegmentation', 'onedl-mmdetection']
    openmmlab = ['mmengine', 'mmcv-lite', 'mmpretrain', 'mmsegmentation', 'mmdet']
    for name in onedl + openmmlab:
        distribution(tmp_path, name)
    finding = check('stack', tmp_path)
    assert finding.state == BROKEN
    assert 'both stacks' in finding.found
    pip = f'{sys.executable} -m pip'
    assert finding.cure == f'{pip} uninstall -y {" ".join(onedl + openmmlab)} && {pip} install {" ".join(onedl)}'


def test_operators_that_do_not_load_are_found(tmp_path):
    """As after an upgrade of torch: the file is there, its symbols are not."""
    (tmp_path / 'mmpretrain.py').write_text('')
    (tmp_path / 'mmcv' / 'ops').mkdir(parents=True)
    (tmp_path / 'mmcv' / '__init__.py').write_text("__version__ = '2.1.0'\n")
    (tmp_path / 'mmcv' / '_ext.py').write_text("raise ImportError('_ext.so: undefined symbol: _ZN2at')\n")
    (tmp_path / 'mmcv' / 'ops' / '__init__.py').write_text('from .. import _ext\n')
    finding = check('operators', tmp_path)
    assert finding.state == BROKEN
    assert finding.found == 'ImportError: _ext.so: undefined symbol: _ZN2at'
    assert '--force-reinstall' in finding.cure


def test_a_symptom_with_a_known_cause_gets_its_cure(tmp_path):
    (tmp_path / 'mmengine').mkdir()
    (tmp_path / 'mmengine' / '__init__.py').write_text('import pkg_resources_of_long_ago\n')
    (tmp_path / 'pkg_resources_of_long_ago.py').write_text('raise ImportError("No module named \'pkg_resources\'")\n')
    finding = check('libraries', tmp_path)
    assert finding.state == BROKEN
    assert finding.cure == f"{sys.executable} -m pip install 'setuptools<82'"
