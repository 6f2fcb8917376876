"""The documentation's code is tried: Python runs, entries are read, and the site builds without a warning."""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import vasomim
from tests.prepare.trees import write_pairs
from vasomim import compat
from vasomim.apis.configs import load_config
from vasomim.benchmark.study.loading import load_entries
from vasomim.cli import VERBS, main
from vasomim.masking import MaskRequest
from vasomim.models import Evidence
from vasomim.registry import MODELS

compat.prepare()

DOCS = Path(__file__).parents[1] / 'docs'


def blocks(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf'```{language}\n(.*?)```', re.DOTALL)
    return [
        (page.name, block) for page in sorted(DOCS.glob('*.md')) for block in pattern.findall(page.read_text('utf-8'))
    ]


@pytest.mark.parametrize(('page', 'code'), blocks('python'))
def test_python_compiles(page: str, code: str) -> None:
    assert compile(code, page, 'exec').co_filename == page


def test_the_example_of_the_statistics_holds() -> None:
    page, code = next(pair for pair in blocks('python') if pair[0] == 'reading_the_statistics.md')
    names: dict = {}
    exec(compile(code, page, 'exec'), names)
    assert names['detectable'] > 0


@pytest.mark.parametrize('name', ['bring_a_checkpoint.md', 'extending.md'])
def test_entries_are_read(name: str, tmp_path: Path) -> None:
    file = tmp_path / 'entries.yaml'
    file.write_text(next(code for page, code in blocks('yaml') if page == name), encoding='utf-8')
    before, after = load_entries(), load_entries([file])
    assert len(after.methods) == len(before.methods) + 1
    if name.startswith('bring'):
        assert after.protocol('mine').methods == ('my_vit', 'mae', 'scratch')


@pytest.fixture(scope='module')
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package of extending.md: each block of Python under the name that the text before it gives."""
    root = tmp_path_factory.mktemp('extending')
    page = (DOCS / 'extending.md').read_text('utf-8')
    for before, code in re.findall(r'([^`]*(?:`[^`]+`[^`]*)*)```python\n(.*?)```', page, re.DOTALL):
        path = root / re.findall(r'`(my_package/\w+\.py)`', before)[-1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(code, encoding='utf-8')
    assert len(list(root.glob('my_package/*.py'))) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        yield root / 'my_package'


def test_the_method_to_extend_by_trains(package: Path) -> None:
    arch = dict(embed_dims=24, num_layers=1, num_heads=3, feedforward_channels=48)
    cfg = load_config(str(package / 'my_method_config.py'))
    cfg.model.backbone.update(arch=arch, img_size=64)
    cfg.model.neck.update(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
    model = MODELS.build(cfg.model)
    frames = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plan = model.masking(MaskRequest(2, model.grid))

    def loss(anatomy: torch.Tensor) -> torch.Tensor:
        return model.losses(frames, Evidence(anatomy=anatomy), plan)['loss_rec']

    one_patch = torch.zeros(2, 1, 64, 64)
    place = int(plan.mask[0].nonzero()[0])
    one_patch[0, 0, 16 * (place // 4), 16 * (place % 4)] = 1
    none, all_of_them = loss(torch.zeros_like(one_patch)), loss(torch.ones_like(one_patch))
    assert torch.isclose(none, all_of_them) and not torch.isclose(none, loss(one_patch), rtol=1e-6)
    drawn = model.masking(MaskRequest(500, model.grid)).mask.mean(dim=0).reshape(4, 4)
    assert drawn[1:3, 1:3].min() > drawn[0, 0] + 0.1 and float(drawn.mean()) == pytest.approx(0.75)
    none.backward()
    assert model.backbone.patch_embed.projection.weight.grad.abs().sum() > 0


READ = """
import sys
from pathlib import Path
from vasomim.apis.config_parts import use_data
from vasomim.apis.configs import load_config
cfg = load_config(sys.argv[1])
use_data(cfg, sys.argv[2])
from mmseg.registry import DATASETS
sets = [DATASETS.build({**cfg[f'{part}_dataloader'].dataset, 'pipeline': []}) for part in ('train', 'val', 'test')]
print(type(sets[0]).__name__, sets[0].metainfo['classes'], sum(map(len, sets)))
"""


def test_the_dataset_to_extend_by_is_installed_prepared_checked_and_read(package: Path, tmp_path: Path) -> None:
    page = (DOCS / 'extending.md').read_text('utf-8')
    source = shutil.copytree(package.parent, tmp_path / 'source')
    (source / 'pyproject.toml').write_text(re.findall(r'```toml\n(.*?)```', page, re.DOTALL)[0], encoding='utf-8')
    target = tmp_path / 'installed'
    options = ['--quiet', '--no-deps', '--no-build-isolation', '--no-index', '--target', str(target)]
    subprocess.run([sys.executable, '-m', 'pip', 'install', *options, str(source)], check=True)
    pairs = write_pairs(tmp_path / 'pairs', [f'p{patient}_{frame}' for patient in range(10) for frame in range(2)])
    published = tmp_path / 'published'
    published.mkdir()
    for path in (pairs / 'images').iterdir():
        path.rename(published / path.name)
    for path in (pairs / 'masks').iterdir():
        path.rename(published / f'{path.stem}_vessels.png')

    def run(*words: str) -> str:
        environment = {**os.environ, 'PYTHONPATH': f'{target}{os.pathsep}{DOCS.parent}'}
        command = [sys.executable, '-W', 'ignore', *words]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    block = next(code for name, code in blocks('bash') if name == 'extending.md' and 'cathlab' in code)
    prepare, check, train = (shlex.split(line) for line in block.splitlines())
    assert 'by patient (10 of them)' in run('-m', *prepare)
    assert '20 frames in all, as published' in run('-m', *check)
    config, folder = train[2], train[train.index('--data') + 1]
    assert run('-c', READ, str(target / config), folder).split(maxsplit=1) == [
        'CathLab',
        "('background', 'vessel') 20\n",
    ]


def test_the_mixed_method_builds(tmp_path: Path) -> None:
    code = next(code for page, code in blocks('python') if page == 'pretraining.md')
    (tmp_path / 'mixed.py').write_text(code, encoding='utf-8')
    cfg = load_config(str(tmp_path / 'mixed.py'), ['model.backbone.arch=tiny', 'model.segmentor.weights=None'])
    model = MODELS.build(cfg.model)
    assert (model.masking.unit, model.masking.ratio, model.guidance.eta, list(model.terms)) == (2, 0.5, 0.5, ['cons'])


def test_the_calls_in_python_have_the_arguments_that_the_functions_take() -> None:
    called = set()
    for page, code in blocks('python'):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith('vasomim.'):
                function = getattr(vasomim, ast.unparse(node.func).removeprefix('vasomim.'))
                inspect.signature(function).bind(*node.args, **{each.arg or '': each.value for each in node.keywords})
                called |= {function.__name__} if page == 'python.md' else set()
    assert called == {'train', 'visualize', 'extract_features', 'convert', 'evaluate', 'predict'}


@pytest.mark.slow
def test_the_first_example_in_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main('synthesize', ['data/quickstart', '--layout', 'folder', '--frames', '20', '--size', '128']) == 0
    names: dict = {}
    exec(next(code for page, code in blocks('python') if page == 'python.md'), names)
    assert names['done'].checkpoint == Path('work_dirs/quickstart/epoch_2.pth') and names['done'].metrics
    assert names['embedded'].features.shape == (20, 192)
    assert Path('reconstructions.png').is_file() and Path('encoder.safetensors').is_file()


def commands() -> list[tuple[str, str]]:
    """The commands of this project in the blocks of the documentation."""
    fenced = re.compile(r'```(?:bash)?\n(.*?)```', re.DOTALL)
    return [
        (page.name, line)
        for page in sorted(DOCS.glob('*.md'))
        for block in fenced.findall(page.read_text('utf-8'))
        for line in block.replace('\\\n', ' ').splitlines()
        if line.startswith('vasomim ') and '{' not in line
    ]


@pytest.mark.parametrize(('page', 'command'), commands())
def test_the_options_of_its_commands_exist(page: str, command: str) -> None:
    _, verb, *arguments = shlex.split(command, comments=True)
    parser = argparse.ArgumentParser(prog=f'{page}: {verb}')
    importlib.import_module(VERBS[verb]).add_arguments(parser)
    parser.parse_args(arguments)  # Exits, which fails the test, if one does not.


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip('material', reason='mkdocs-material is not installed')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--quiet', '--site-dir', str(tmp_path)]
    result = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / 'leaderboard' / 'index.html').is_file()
