"""The documentation's code is tried: Python runs, entries are read, and the site builds without a warning."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vasomim.benchmark.entries import load_entries
from vasomim.cli import VERBS

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
