"""A wheelhouse that one command fills and another installs from, with tiny packages in place of the pinned ones.

No package comes from a registry: those that `make wheelhouse` collects lie in a folder as source archives, as some of
the pinned ones do, and pip comes with Python.
"""

from __future__ import annotations

import ensurepip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed.'),
    pytest.mark.skipif(sys.platform != 'linux', reason='sha256sum and unshare are those of Linux.'),
]

# A build backend that needs no package: it writes a wheel or an editable one, by hand.
BACKEND = """
import base64, hashlib, zipfile

NAME, VERSION, MODULE = {name!r}, {version!r}, {module!r}


def build_wheel(folder, config_settings=None, metadata_directory=None, stem=None, content=None):
    stem = NAME.replace('-', '_') + '-' + VERSION
    info = stem + '.dist-info/'
    files = content or {{MODULE + '.py': open(MODULE + '.py').read()}}
    files[info + 'METADATA'] = f'Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n'
    files[info + 'WHEEL'] = 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'
    records = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        records.append(f'{{path}},sha256={{digest}},{{len(text.encode())}}')
    files[info + 'RECORD'] = '\\n'.join([*records, info + 'RECORD,,']) + '\\n'
    with zipfile.ZipFile(f'{{folder}}/{{stem}}-py3-none-any.whl', 'w') as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return f'{{stem}}-py3-none-any.whl'


def build_editable(folder, config_settings=None, metadata_directory=None):
    import os
    return build_wheel(folder, content={{MODULE + '.pth': os.getcwd() + '\\n'}})
"""
PYPROJECT = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"


def sources_of(name: str, version: str) -> dict[str, str]:
    module = name.replace('-', '_')
    return {
        'pyproject.toml': PYPROJECT,
        'backend.py': BACKEND.format(name=name, version=version, module=module),
        f'{module}.py': f'NAME = {name!r}\n',
        'PKG-INFO': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n',
    }


def write_archive(folder: Path, name: str, version: str) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f'{name}-{version}.tar.gz', 'w:gz') as archive:
        for path, text in sources_of(name, version).items():
            entry = tarfile.TarInfo(f'{name}-{version}/{path}')
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


def write_project(root: Path, makefile: Path, archives: Path) -> None:
    """A project with this one's Makefile, whose pinned packages are source archives in a folder."""
    pinned = {'onedl': ('tiny-stack', 'opencv-python-headless'), 'dev': ('tiny-tool',)}
    (root / 'requirements').mkdir(parents=True)
    for file, names in pinned.items():
        (root / 'requirements' / f'{file}.txt').write_text(''.join(f'{name}==1.0\n' for name in names))
        for name in names:
            write_archive(archives, name, '1.0')
    for path, text in {**sources_of('tiny-project', '0.1'), 'setup.py': ''}.items():
        (root / path).write_text(text)
    shutil.copy(makefile, root)


def make(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(('PIP_', 'MAKE', 'PYTHON'))}
    command = ['make', f'PYTHON={sys.executable}', *arguments]
    # In a network of its own, which has no way out, where the system lets us make one.
    alone = ['unshare', '--net', '--map-root-user'] if MAY_UNSHARE else []
    environment = {**kept, 'PIP_CONFIG_FILE': os.devnull, **variables}
    return subprocess.run([*alone, *command], cwd=root, env=environment, capture_output=True, text=True, check=False)


def may_unshare() -> bool:
    if shutil.which('unshare') is None:
        return False
    return subprocess.run(['unshare', '--net', '--map-root-user', 'true'], capture_output=True).returncode == 0


MAY_UNSHARE = may_unshare()


@pytest.mark.slow
def test_a_wheelhouse_is_filled_checked_and_installed_from_without_network(tmp_path, project_root):
    archives, there, here = tmp_path / 'archives', tmp_path / 'there', tmp_path / 'here'
    write_project(there, project_root / 'Makefile', archives)
    links = f'{archives} {Path(ensurepip.__file__).parent / "_bundled"} /usr/share/python-wheels'  # Debian's place.
    filled = make(there, 'wheelhouse', PIP_NO_INDEX='1', PIP_FIND_LINKS=links)
    assert filled.returncode == 0, filled.stderr
    wheels = {path.name.split('-')[0] for path in (there / 'wheelhouse').glob('*.whl')}
    assert wheels == {'pip', 'tiny_stack', 'tiny_tool', 'opencv_python_headless', 'tiny_project'}
    assert not (there / 'build' / 'wheelhouse-env').exists()

    shutil.copytree(there, here)
    shutil.rmtree(archives)
    shutil.rmtree(there)
    installed = make(here, 'install', 'WHEELHOUSE=wheelhouse', 'VENV=env')
    assert installed.returncode == 0, installed.stderr
    code = 'import tiny_stack, tiny_tool, tiny_project; print(tiny_project.__file__)'
    python = [here / 'env' / 'bin' / 'python', '-c', code]
    assert subprocess.run(python, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.strip() == str(
        here / 'tiny_project.py'
    )

    wheel = next((here / 'wheelhouse').glob('tiny_stack*'))
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:-1])
    damaged = make(here, 'install', 'WHEELHOUSE=wheelhouse', 'VENV=other')
    assert damaged.returncode != 0
    assert re.search(r'^tiny_stack.*: FAILED', damaged.stdout, re.MULTILINE)
    assert 'wheelhouse is not whole. Copy it again' in damaged.stdout
    assert not (here / 'other').exists()

    wheel.write_bytes(whole)
    for name, said in (('MADE_FOR', 'wheelhouse was made for: Python 2 7 Linux x86_64'), ('SHA256SUMS', 'not whole')):
        path = here / 'wheelhouse' / name
        before = path.read_text()
        if name == 'MADE_FOR':
            path.write_text('Python 2 7 Linux x86_64\n')
            subprocess.run('sha256sum MADE_FOR *.whl > SHA256SUMS', shell=True, cwd=path.parent, check=True)
        else:
            path.unlink()
        refused = make(here, 'install', 'WHEELHOUSE=wheelhouse', 'VENV=other')
        assert refused.returncode != 0
        assert said in refused.stdout
        path.write_text(before)
    assert not (here / 'other').exists()


def test_every_pinned_package_of_an_install_is_collected(project_root):
    lines = subprocess.run(['make', '-n', 'wheelhouse'], cwd=project_root, capture_output=True, text=True, check=True)
    collected = ' '.join(lines.stdout.replace('\\\n', ' ').split())
    expected = subprocess.run(
        ['make', '-n', '--always-make', 'install'], cwd=project_root, capture_output=True, text=True, check=True
    )
    (install,) = re.findall(r'-m pip install ((?:-r \S+ )+)-e \.', expected.stdout)
    assert f'{install}.' in collected
