"""The dispatcher, as a process where its behaviour shows only there."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from types import ModuleType

import pytest

from vasomim import __version__, cli
from vasomim.errors import ConfigError


@pytest.fixture
def verb(monkeypatch):
    """Offer a verb `demo` that does what the test says."""

    def make(run) -> None:
        module = ModuleType('demo_verb')
        module.SUMMARY = 'Demonstrate.'
        module.add_arguments = lambda parser: parser.add_argument('--count', type=int, default=1)
        module.run = run
        monkeypatch.setitem(sys.modules, 'demo_verb', module)
        monkeypatch.setitem(cli.VERBS, 'demo', 'demo_verb')

    return make


def test_help_lists_every_verb_with_its_summary_and_imports_no_library(project_root):
    code = (
        'import sys\n'
        'from vasomim.cli import main\n'
        "status = main(argv=['--help'])\n"
        "assert not {'torch', 'mmengine', 'numpy', 'cv2', 'rich'} & set(sys.modules)\n"
        'raise SystemExit(status)\n'
    )
    process = subprocess.run([sys.executable, '-c', code], cwd=project_root, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    listed = {line.split()[0]: line.split(maxsplit=1)[1] for line in process.stdout.splitlines() if line[:2] == '  '}
    assert set(listed) == set(cli.VERBS)
    assert listed['doctor'] == 'Check the installation and name the command that mends each thing that is off.'


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its verbs below."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


@pytest.mark.parametrize('verb', cli.VERBS)
def test_every_help_is_printed_with_all_its_options(verb):
    """argparse formats a help on being asked only: a bare per cent sign in one crashes there."""
    parser = argparse.ArgumentParser(prog=verb)
    importlib.import_module(cli.VERBS[verb]).add_arguments(parser)
    for each in parsers(parser):
        text = each.format_help()
        for action in each._actions:
            assert all(option in text for option in action.option_strings if action.help != argparse.SUPPRESS)


def test_every_verb_has_a_script_of_the_same_effect(project_root):
    called = set()
    for script in (project_root / 'tools').glob('*.py'):
        lines = script.read_text().splitlines()
        assert lines[0] == 'from vasomim.cli import main'
        called.add(lines[-1].partition("main('")[2].partition("'")[0])
    assert called == set(cli.VERBS)


def test_options_reach_the_verb_and_its_status_comes_back(verb):
    seen = []
    verb(lambda options: seen.append(options.count) or 7)
    assert cli.main(argv=['demo', '--count', '3']) == 7
    assert cli.main('demo', ['--count', '4']) == 7
    assert seen == [3, 4]


def test_an_error_is_printed_without_a_traceback(verb, capsys):
    def run(options):
        raise ConfigError('mine.py', 'no such key.', 'Remove it.')

    verb(run)
    assert cli.main(argv=['demo']) == 2
    assert capsys.readouterr().err == 'ConfigError: mine.py: no such key.\n  Remove it.\n'


def test_a_missing_library_is_named_with_the_way_to_the_cure(verb, capsys):
    def run(options):
        import a_library_that_does_not_exist  # noqa: F401

    verb(run)
    assert cli.main(argv=['demo']) == 2
    error = capsys.readouterr().err
    assert 'a_library_that_does_not_exist is not installed' in error
    assert 'vasomim doctor' in error


def test_a_bug_keeps_its_traceback(verb):
    def run(options):
        raise ZeroDivisionError

    verb(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(argv=['demo'])


@pytest.mark.parametrize(
    ('argument', 'answer'), [('trian', "Did you mean 'train'?"), ('banana', '`vasomim --help` lists the verbs.')]
)
def test_an_unknown_verb_gets_a_suggestion(argument, answer, capsys):
    assert cli.main(argv=[argument]) == 2
    assert capsys.readouterr().err == f"vasomim: unknown verb '{argument}'. {answer}\n"


def test_version(capsys):
    assert cli.main(argv=['--version']) == 0
    assert capsys.readouterr().out == f'vasomim {__version__}\n'


def test_ctrl_c_ends_quietly_with_the_status_of_an_interrupt(project_root, tmp_path):
    (tmp_path / 'waiting.py').write_text(
        'import time\n'
        "SUMMARY = 'Wait.'\n"
        'def add_arguments(parser): pass\n'
        "def run(options): print('waiting', flush=True); time.sleep(60)\n"
    )
    code = "from vasomim import cli; cli.VERBS['wait'] = 'waiting'; raise SystemExit(cli.main('wait', []))"
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(tmp_path), str(project_root)])}
    # What starts the tests in the background lets all that they start ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
    with subprocess.Popen(
        [sys.executable, '-c', code], env=environment, text=True, preexec_fn=heed, **pipes
    ) as process:
        assert process.stdout.readline() == 'waiting\n'
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == 'Interrupted.\n'
