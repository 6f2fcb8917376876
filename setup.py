"""Packaging. The tools' settings stand in pyproject.toml, the exact versions that were tested in requirements/."""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

# The two stacks share their import names (mmengine, mmcv, ...), so an environment holds one of them and a wheel asks
# for one of them: the default, or OpenMMLab's own by `VASOMIM_STACK=openmmlab pip install .`. An extra could only add
# the second stack to the first.
STACKS = {
    'onedl': [
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmpretrain>=1.3.6',
        'onedl-mmsegmentation>=1.4.2',
        'onedl-mmdetection>=3.5.1',
    ],
    'openmmlab': [
        'mmengine>=0.10.7,<1',
        # No mmcv: either mmcv, with compiled operators, or mmcv-lite will do, and no requirement can say `or`.
        # requirements/openmmlab.txt takes mmcv-lite.
        'mmpretrain>=1.2.0,<2',
        'mmsegmentation>=1.2.2,<2',
        'mmdet>=3.3.0,<4',
        'ftfy',  # Imported by mmsegmentation, which does not ask for it;
        'regex',  # and this one too.
        'setuptools<82',  # mmengine 0.10.7 imports pkg_resources, which setuptools 82 removed.
    ],
}

REQUIREMENTS = [
    'torch>=2.6',  # The first that loads checkpoints safely by default.
    'torchvision>=0.21',  # NMS, RoIAlign and focal loss where mmcv has none compiled; the release for torch 2.6.
    'numpy>=1.26',  # The first for Python 3.12.
    'opencv-python>=4.8',  # Reads and filters frames.
    'scipy>=1.11.4',  # Distances between masks; scikit-image 0.25 asks for it too.
    'scikit-image>=0.25',  # Thins masks to centerlines for clDice; the first series for Python 3.13.
    'pydicom>=3',  # Reads DICOM cines frame by frame; decodes RLE itself, the rest by plugins.
    'scikit-learn>=1.5',  # Linear probing: logistic regression; 1.5 came with NumPy 2.
    'safetensors>=0.4',  # The format of the weights that come with this package.
    'jinja2>=3.1',  # The leaderboard's page.
    'rich>=13',  # Progress and tables.
    'tensorboard>=2.14',  # Training curves.
    'pyyaml>=6',  # Entries of the benchmark.
    'pydantic>=2.9',  # What entries, records and submissions of the benchmark may hold.
    'submitit>=1.5',  # Runs the benchmark's jobs on Slurm.
]


def stack() -> list[str]:
    """Return the requirements of the chosen stack."""
    name = os.environ.get('VASOMIM_STACK', 'onedl')
    if name not in STACKS:
        raise SystemExit(
            f'VASOMIM_STACK={name}: no such stack.\n  Set it to one of {", ".join(STACKS)}, or not at all.'
        )
    return STACKS[name]


def version() -> str:
    """Return the version without importing the package."""
    source = (ROOT / 'vasomim' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '([^']+)'", source, re.MULTILINE)
    assert match, 'vasomim/__init__.py assigns no __version__.'
    return match.group(1)


def readme() -> str:
    """Return the long description; it is absent while only the sources are copied, as into a container's layer."""
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


setup(
    # Not `vasomim`: for a distribution of the module's name mmengine 0.10.7 looks for the configs in site-packages,
    # where an editable install has none; for any other name it asks Python where the module is.
    name='vasomim-openmmlab',
    version=version(),
    description='Vascular anatomy-aware masked image modelling for X-ray angiograms, on OpenMMLab',
    long_description=readme(),
    long_description_content_type='text/markdown',
    author='The VasoMIM-for-OpenMMLab contributors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX',  # Jobs are forked, and folders opened to be synced: not Windows.
        'Operating System :: POSIX :: Linux',  # The one that is tested.
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Medical Science Apps.',
    ],
    keywords='angiography self-supervised masked-image-modelling openmmlab',
    python_requires='>=3.10',
    packages=find_packages(include=['vasomim', 'vasomim.*']),
    # .mim/configs is a link to configs/, where mmengine looks for `_base_ = 'vasomim::...'`, and .mim/benchmark holds
    # links to the benchmark's entries; a wheel holds the files.
    package_data={
        'vasomim': [
            '.mim/model-index.yml',
            '.mim/configs/**/*.py',
            '.mim/benchmark/**/*.yaml',
            '**/*.safetensors',
            '**/*.json',
            '**/*.md',
            'benchmark/reporting/templates/*.html',
        ]
    },
    install_requires=REQUIREMENTS + stack(),
    extras_require={
        # `vasomim export`: writes ONNX files, and compares them with PyTorch.
        'export': ['onnx>=1.16', 'onnxruntime>=1.18'],
    },
    entry_points={'console_scripts': ['vasomim = vasomim.cli:entry']},
)
