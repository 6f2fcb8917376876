"""The commands behind `make` and continuous integration are ones that exist."""

from __future__ import annotations

import argparse
import importlib
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from vasomim.cli import VERBS

pytestmark = pytest.mark.skipif(shutil.which('make') is None, reason='make is not installed.')


def make(root: Path, *arguments: str) -> str:
    process = subprocess.run(['make', '--no-print-directory', *arguments], cwd=root, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_make_alone_lists_every_target(project_root):
    targets = next(line for line in (project_root / 'Makefile').read_text().splitlines() if line.startswith('.PHONY:'))
    assert [line.split()[0] for line in make(project_root).splitlines()] == targets.split()[1:]


def test_the_commands_of_the_quickstart_parse_and_hand_files_on(project_root):
    printed = make(project_root, '-n', 'quickstart').replace('\\\n', ' ')
    lines = [line for line in printed.splitlines() if '/bin/vasomim ' in line]
    parsed = []
    for line in lines:
        verb, *arguments = shlex.split(line)[1:]
        module = importlib.import_module(VERBS[verb])
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        parsed.append((verb, vars(parser.parse_args(arguments))))
    verbs = [verb for verb, _ in parsed]
    assert verbs == ['synthesize', 'extract', 'train', 'visualize', 'benchmark']
    synthesize, extract, train, visualize, _ = (options for _, options in parsed)
    assert Path(synthesize['dst']) == extract['source'] == visualize['source']
    assert (project_root / train['config']).is_file()
    assert train['work_dir'] in visualize['checkpoint']


def test_continuous_integration_calls_targets_that_exist(project_root):
    script = project_root / '.ci' / 'run'
    subprocess.run(['bash', '-n', str(script)], check=True)
    called = [line.split()[1] for line in script.read_text().splitlines() if line.startswith('make ')]
    assert called == ['lint', 'docs', 'browser', 'slurm', 'test', 'test-slow', 'test-openmmlab', 'quickstart']
    for target in called:
        make(project_root, '-n', target)
