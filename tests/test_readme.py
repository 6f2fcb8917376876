"""Every command of the README and of the site's pages on training runs, in its order, on small data."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.dicoms import write_dicom
from vasomim.apis.configs import load_config
from vasomim.cli import main

# Options that make a training of the README short; everything else stays as it is written there.
SHORT = [
    'train_cfg.max_epochs=1',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
]
TINY = 'model.backbone.arch=tiny'
SHORT_MODELS = {
    'segmentor/unext': [],
    'detection.py': [TINY, 'model.roi_head.bbox_head.fc_out_channels=32', 'model.test_cfg.rpn.max_per_img=50'],
    'downstream/': [TINY, 'model.decode_head.widths=[16,16,8,8,8]'],
    'pretrain/': [TINY, 'model.neck.decoder_depth=1', 'model.neck.decoder_embed_dim=64'],
}
PROCESSES = 2
PAGES = ('README.md', 'docs/pretraining.md', 'docs/downstream.md')  # In the order in which a user comes to them.
RUN_ELSEWHERE = ('git', 'make', 'pip', 'apt-get')  # Their targets are what continuous integration runs.


def commands(readme: str) -> list[str]:
    blocks = re.findall(r'```bash\n(.*?)```', readme, re.DOTALL)
    return [line for block in blocks for line in block.replace('\\\n', ' ').splitlines() if line.strip()]


def shortened(command: str) -> list[str]:
    words = shlex.split(command)
    if words[0] == 'torchrun':
        words[words.index('--nproc-per-node') + 1] = str(PROCESSES)
        words = [sys.executable, '-m', 'torch.distributed.run', '--master-port', '29611', *words[1:]]
    if words[0] == 'python':
        words[0] = sys.executable
    if words[0] == 'vasomim':
        words = [sys.executable, '-m', 'vasomim', *words[1:]]
    if 'train' in words or 'tools/train.py' in words:
        options = SHORT + next(own for part, own in SHORT_MODELS.items() if any(part in word for word in words))
        words += options if '--cfg-options' in words else ['--cfg-options', *options]
    return words


@pytest.fixture(scope='module')
def workplace(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """A folder as a user of a clone has it, with frames of their own and a small XA-170K."""
    root = tmp_path_factory.mktemp('user')
    for name in ('tools', 'configs', 'benchmark'):
        (root / name).symlink_to(project_root / name)
    assert main('synthesize', [str(root / 'frames'), '--layout', 'folder', '--frames', '12', '--jobs', '1']) == 0
    write_dicom(root / 'dcm' / 'run.dcm', np.random.default_rng(0).integers(0, 256, (12, 64, 64), dtype=np.uint8))
    published = root / 'published'
    assert main('synthesize', [str(published), '--layout', 'arcade', '--frames', '12', '--jobs', '1']) == 0
    shutil.make_archive(str(root / 'ARCADE'), 'zip', published)
    assert main('synthesize', [str(root / 'data/xa170k'), '--layout', 'xa170k', '--frames', '12', '--jobs', '1']) == 0
    assert main('extract', [str(root / 'data/xa170k'), '--jobs', '1']) == 0
    return root


@pytest.mark.slow
def test_every_command_runs(workplace: Path, project_root: Path) -> None:
    found = [command for page in PAGES for command in commands((project_root / page).read_text(encoding='utf-8'))]
    run = [command for command in found if command.split()[0] not in RUN_ELSEWHERE]
    assert len(run) >= 8
    for command in run:
        if 'speed.py' in command:
            continue  # Tested by itself, and slow by nature.
        result = subprocess.run(
            shortened(command),
            cwd=workplace,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert result.returncode == 0, f'{command}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}'
    assert (workplace / 'reconstructions.png').stat().st_size > 10_000
    assert (workplace / 'work_dirs/segmentor.safetensors').exists()


def test_the_options_for_one_gpu_give_the_batch_of_the_paper(project_root: Path) -> None:
    readme = (project_root / 'README.md').read_text(encoding='utf-8')
    options = re.search(r'On one GPU `--amp --cfg-options ([^`]+)`', readme)
    processes = re.search(r'torchrun --nproc-per-node (\d+)', readme)
    assert options and processes
    paper, one = (
        load_config('vasomim::pretrain/vasomim.py'),
        load_config('vasomim::pretrain/vasomim.py', options[1].split()),
    )
    assert paper.train_dataloader.batch_size * int(processes[1]) == 2048
    assert one.train_dataloader.batch_size * one.optim_wrapper.accumulative_counts == 2048


def test_the_targets_and_files_that_it_names_exist(project_root: Path) -> None:
    readme = (project_root / 'README.md').read_text(encoding='utf-8')
    makefile = (project_root / 'Makefile').read_text(encoding='utf-8')
    for target in re.findall(r'`?make ([a-z-]+)', readme):
        assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
    for path in re.findall(r'\]\(((?!http)[^)]+)\)', readme):
        assert (project_root / path).exists(), path
    listed = set()
    for page in PAGES:
        text = (project_root / page).read_text(encoding='utf-8')
        listed |= set(re.findall(r'`((?:pretrain|segmentor|downstream)/[\w/]+\.py)`', text))
    shipped = {str(path.relative_to(project_root / 'configs')) for path in (project_root / 'configs').glob('*/**/*.py')}
    assert listed == {name for name in shipped if '_base_' not in name} - {'pretrain/quickstart.py'}
