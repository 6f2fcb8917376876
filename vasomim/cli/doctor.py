"""``vasomim doctor``: what is installed, what is off, and the command that mends it.

Every library is looked at in a process of its own, so that one that is missing or crashes is reported like the rest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from vasomim.cores import cores

SUMMARY = 'Check the installation and name the command that mends each thing that is off.'

OK, NOTE, BROKEN = 'ok', 'note', 'broken'
MARKS = {OK: '[green]ok[/]', NOTE: '[yellow]note[/]', BROKEN: '[bold red]broken[/]'}

# The distributions of each stack; the two share their import names. A tuple lists names of which one is enough.
STACKS: dict[str, list[tuple[str, ...]]] = {
    'onedl': [
        ('onedl-mmengine',),
        ('onedl-mmcv',),
        ('onedl-mmpretrain',),
        ('onedl-mmsegmentation',),
        ('onedl-mmdetection',),
    ],
    'openmmlab': [('mmengine',), ('mmcv-lite', 'mmcv'), ('mmpretrain',), ('mmsegmentation',), ('mmdet',)],
}
PIP = f'{sys.executable} -m pip'
REINSTALL = f'{PIP} install --force-reinstall --no-deps'
MMCV_LITE = 'mmcv-lite==2.1.0'  # The last that mmdet 3.3.0 and mmsegmentation 1.2.2 agree to be imported beside.
INSTALL_STACK = f'{PIP} install {" ".join(names[0] for names in STACKS["onedl"])}'

# What the last line of a failed import says, and what mends it.
SYMPTOMS = {
    'pkg_resources': f"{PIP} install 'setuptools<82'",
    'MMCV==': f'{PIP} uninstall -y mmcv && {REINSTALL} {MMCV_LITE}',
    "named 'ftfy'": f'{PIP} install ftfy regex',
}
DISK_NEEDED = 7  # GB; an environment with PyTorch's CUDA libraries takes 6.4.
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: What was looked at.
        state: ``ok``; ``note``, where something optional is missing; or ``broken``, where something needed is.
        found: What was found, a version for instance.
        cure: The command that mends it, or the empty string.
    """

    name: str
    state: str
    found: str
    cure: str = ''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument('--json', action='store_true', help='print the findings as JSON')


def run(options: argparse.Namespace) -> int:
    """Print the findings; return 1 if something that is needed is broken, else 0."""
    findings = examine()
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(findings)
    return int(any(finding.state == BROKEN for finding in findings))


def examine() -> list[Finding]:
    """Look at everything, in the order in which it has to be mended."""
    checks = [python, torch, torchvision, opencv, stack, libraries, operators, gpu, decoders, processors, disk, browser]
    with ThreadPoolExecutor(max_workers=4) as pool:  # They mostly wait for the interpreters that they start.
        return list(pool.map(lambda check: check(), checks))


def show(findings: list[Finding]) -> None:
    """Print the findings as a table, and below it the commands in full, so that they can be copied."""
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ModuleNotFoundError:  # The doctor has to speak on a machine where nothing is installed yet.
        for finding in findings:
            print(f'{finding.state:<8}{finding.name:<13}{finding.found}')
    else:
        console = Console()
        table = Table('', 'what', 'found', box=None, pad_edge=False)
        for finding in findings:
            table.add_row(MARKS[finding.state], finding.name, escape(finding.found))
        console.print(table)

    for finding in findings:
        if finding.cure:
            print(f'\n{finding.name}:\n  {finding.cure}')


def python() -> Finding:
    """The interpreter has to be one that the package supports."""
    found = f'{platform.python_version()} ({sys.executable})'
    if sys.version_info < (3, 10):  # noqa: UP036 - pip would refuse, but a checkout runs without pip.
        return Finding('Python', BROKEN, found, 'make install PYTHON=python3.12')
    if sys.version_info >= (3, 14):
        return Finding('Python', NOTE, f'{found}; tested up to 3.13', 'make install PYTHON=python3.13')
    return Finding('Python', OK, found)


def torch() -> Finding:
    """PyTorch has to be there and to load."""
    version, error = probe('import torch; print(torch.__version__)')
    if error:
        return Finding('torch', BROKEN, error, f'{PIP} install --force-reinstall torch torchvision')
    return Finding('torch', OK, version)


def torchvision() -> Finding:
    """Its operators load only beside the torch that it was built for, so one is called."""
    version, error = probe(
        'import torch, torchvision\n'
        'torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n'
        'print(torchvision.__version__)'
    )
    if error:
        return Finding('torchvision', BROKEN, error, f'{PIP} install --force-reinstall torch torchvision')
    return Finding('torchvision', OK, f'{version}, matches torch')


def opencv() -> Finding:
    """OpenCV, unless headless, needs libGL, which slim images lack."""
    found, error = probe('import cv2; print(cv2.__version__)')
    if not error:
        return Finding('OpenCV', OK, found)
    version = installed('opencv-python')
    if version is None:
        return Finding('OpenCV', BROKEN, error, f'{PIP} install opencv-python-headless')
    cure = f'{REINSTALL} opencv-python-headless=={version}'
    if 'libGL' in error or 'libgthread' in error:
        cure += '\n  or: apt-get install libgl1 libglib2.0-0'
    return Finding('OpenCV', BROKEN, error, cure)


def stack() -> Finding:
    """Exactly one of the two stacks may be there, as both unpack into the same folders."""
    present = {name: [part for names in parts for part in names if installed(part)] for name, parts in STACKS.items()}
    everything = [part for parts in present.values() for part in parts]
    if not everything:
        return Finding('stack', BROKEN, 'none of the OpenMMLab libraries is installed', INSTALL_STACK)
    if all(present.values()):
        # Each has overwritten files of the other, so both go and the default comes back.
        cure = f'{PIP} uninstall -y {" ".join(everything)} && {INSTALL_STACK}'
        return Finding('stack', BROKEN, f'both stacks in one environment: {", ".join(everything)}', cure)
    if {'mmcv', 'mmcv-lite'} <= set(everything):
        cure = f'{PIP} uninstall -y mmcv mmcv-lite && {PIP} install {MMCV_LITE}'
        return Finding('stack', BROKEN, 'openmmlab, with both mmcv and mmcv-lite in the same folder', cure)
    name = 'onedl' if present['onedl'] else 'openmmlab'
    missing = [names[0] for names in STACKS[name] if not set(names) & set(everything)]
    if missing:
        wanted = [MMCV_LITE if part == 'mmcv-lite' else part for part in missing]
        return Finding('stack', BROKEN, f'{name}, without {", ".join(missing)}', f'{PIP} install {" ".join(wanted)}')
    return Finding('stack', OK, f'{name}: ' + ', '.join(f'{part} {installed(part)}' for part in everything))


def libraries() -> Finding:
    """All five have to be imported as training imports them."""
    _, error = probe(
        'from vasomim import compat\n'
        'compat.prepare()\n'
        'import mmdet.models, mmengine.utils, mmpretrain.models, mmseg.models\n'
        "mmengine.utils.is_installed('mmdet')"  # mmengine 0.10.7 imports pkg_resources only here.
    )
    if not error:
        return Finding('libraries', OK, 'mmengine, mmcv, mmpretrain, mmseg and mmdet load')
    parts = [part for parts in STACKS.values() for names in parts for part in names if installed(part)]
    cure = f'{REINSTALL} {" ".join(parts)}' if parts else INSTALL_STACK
    for symptom, known_cure in SYMPTOMS.items():
        if symptom in error:
            cure = known_cure
    return Finding('libraries', BROKEN, error, cure)


def operators() -> Finding:
    """Compiled operators of mmcv are welcome and not needed; ones that do not load are in the way."""
    answer, error = probe(
        'from vasomim import compat\n'
        'compiled = compat.has_compiled_operators()\n'
        'compat.prepare()\n'
        'import mmcv.ops\n'
        'print(compiled)'
    )
    if error:
        # Either gives an mmcv without compiled operators, for which the stand-in is enough.
        if installed('mmcv'):
            cure = f'{PIP} uninstall -y mmcv && {REINSTALL} {MMCV_LITE}'
        elif installed('mmcv-lite'):
            cure = f'{REINSTALL} {MMCV_LITE}'
        else:
            cure = f'{PIP} install --force-reinstall --no-deps --no-cache-dir onedl-mmcv'
        return Finding('operators', BROKEN, error, cure)
    if answer == 'True':
        return Finding('operators', OK, "mmcv's compiled ones")
    return Finding('operators', OK, 'stand-in: NMS, RoIAlign and focal loss through torchvision, no others')


def gpu() -> Finding:
    """A GPU is welcome and not needed; one that PyTorch cannot use deserves a word."""
    answer, error = probe(
        'import torch\n'
        'print(torch.__version__, torch.version.cuda)\n'
        'for i in range(torch.cuda.device_count()):\n'
        '    device = torch.cuda.get_device_properties(i)\n'
        '    print(f"{device.name}, {device.total_memory / 2**30:.0f} GiB")'
    )
    build, *devices = answer.splitlines() or ['']
    if devices:
        return Finding('GPU', OK, '; '.join(devices))
    if not shutil.which('nvidia-smi') or error:
        return Finding('GPU', OK, 'none; training runs on the CPU')
    version, cuda = build.split()
    made = f'PyTorch {version} here is built {"without CUDA" if cuda == "None" else f"for CUDA {cuda}"}'
    start = 'Install' if cuda == 'None' else 'Update the NVIDIA driver, or install'
    cure = (
        f'{made}; `nvidia-smi` shows the newest CUDA that the driver knows.\n'
        f'  {start} the build for that CUDA from pytorch.org, with the versions of requirements/onedl.txt.'
    )
    return Finding('GPU', NOTE, 'there is a driver, but PyTorch sees no GPU', cure)


def decoders() -> Finding:
    """Many cath labs write JPEG Lossless, which pydicom decodes by a plugin only."""
    answer, error = probe(
        'from pydicom.pixels import get_decoder\n'
        'from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless\n'
        'print(all(get_decoder(syntax).is_available for syntax in (JPEGLosslessSV1, JPEGLSLossless)))'
    )
    if error:
        return Finding('DICOM', BROKEN, error, f'{PIP} install pydicom')
    if answer == 'True':
        return Finding('DICOM', OK, 'JPEG Lossless and JPEG-LS too')
    return Finding('DICOM', NOTE, 'no decoder of JPEG Lossless and JPEG-LS', f'{PIP} install python-gdcm')


def processors() -> Finding:
    """Cores that this process may use, which in a container can be fewer than the machine has."""
    return Finding('CPU', OK, f'{cores()} cores')


def disk() -> Finding:
    """Training and a second environment need room."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < DISK_NEEDED:
        return Finding('disk', NOTE, f'{free:.1f} GB free here', f'{PIP} cache purge')
    return Finding('disk', OK, f'{free:.0f} GB free here')


def browser() -> Finding:
    """Only the tests of HTML pages open a browser."""
    for name in BROWSERS:
        path = shutil.which(name)
        if path:
            return Finding('browser', OK, path)
    return Finding('browser', NOTE, 'none; only tests of HTML pages need one', 'apt-get install chromium')


def installed(distribution: str) -> str | None:
    """Return the version of a distribution, or None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def probe(code: str) -> tuple[str, str]:
    """Run code in a fresh interpreter that finds this package too.

    Returns:
        What it printed, and the last line of its error: the empty string if it ended well.
    """
    paths = [*filter(None, [os.environ.get('PYTHONPATH')]), str(Path(__file__).parents[2])]
    command = [sys.executable, '-W', 'ignore', '-c', code]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    try:
        process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    except subprocess.TimeoutExpired:
        return '', 'no answer within 5 minutes'
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        return '', lines[-1] if lines else f'ended with status {process.returncode}'
    return process.stdout.strip(), ''
