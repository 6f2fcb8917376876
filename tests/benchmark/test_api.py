"""A study planned, run, followed, reported and verified by function, as a Python user would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vasomim
from tests.benchmark.fakes import ENTRIES
from tests.benchmark.submission.made import Made
from vasomim.benchmark.results.store import Store
from vasomim.cli import main
from vasomim.errors import ConfigError


@pytest.fixture
def study(tmp_path: Path) -> dict:
    """Arguments that name a study of four cells, computed by a function."""
    (tmp_path / 'mine.yaml').write_text(ENTRIES.format(function='quick', seeds=2))
    return {'protocol': 'tiny', 'entries': [tmp_path / 'mine.yaml'], 'results': tmp_path / 'results'}


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def options(study: dict) -> list[str]:
    """The same as options of the command."""
    return ['--protocol', study['protocol'], '--entries', str(study['entries'][0]), '--results', str(study['results'])]


def test_plan_run_status_and_report(study: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    where = {**study, 'work_dir': tmp_path / 'work'}
    before = vasomim.benchmark.plan(**where)
    assert capsys.readouterr() == ('', '')
    assert (before.title, before.cells, before.pretrainings, before.problems) == ('Tiny', 4, 0, ())
    assert [(job.state, job.seconds) for job in before.jobs] == [('to run', None)] * 4
    assert before.jobs[0].title == 'fast / one / seed 0'
    assert before.cost is not None and before.lacking_disk == '' and before.left_behind is None

    told: list[str] = []
    first = vasomim.benchmark.run(**where, only=['method=one'], say=told.append)
    assert (first.finished, first.failed, first.blocked, first.by_others, first.pages) == (2, 0, 0, 0, ())
    assert sum(line.startswith('finished fast / one') for line in told) == 2
    between = vasomim.benchmark.plan(**where)
    assert [job.state for job in between.jobs] == ['finished', 'finished', 'to run', 'to run']
    assert vasomim.benchmark.run(**where).finished == 2
    assert {cell.cell for cell in Store(study['results']).cells()} == {job.name for job in before.jobs}
    now = vasomim.benchmark.status(tmp_path / 'work')
    assert (len(now.rows), now.count('finished'), now.active) == (4, 4, False)

    pages = vasomim.benchmark.report(**study, output=tmp_path / 'api')
    assert main('benchmark', ['report', *options(study), '--output', str(tmp_path / 'cli')]) == 0
    assert tree(tmp_path / 'api') == tree(tmp_path / 'cli')
    assert sorted(pages) == sorted(path for path in (tmp_path / 'api').rglob('*') if path.is_file())
    assert 'Tiny' in (tmp_path / 'api' / 'LEADERBOARD.md').read_text()


def test_the_plan_is_that_of_the_command(study: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    work = tmp_path / 'work'
    chosen = {'only': ['seed=1'], 'label_fractions': [0.5, 1]}
    found = vasomim.benchmark.plan(**study, work_dir=work, **chosen)
    flags = ['--work-dir', str(work), '--only', 'seed=1', '--label-fraction', '0.5,1']
    assert main('benchmark', ['plan', *options(study), *flags]) == 0
    printed = capsys.readouterr().out
    assert len({job.name for job in found.jobs}) == found.cells == 4
    assert all(job.name in printed for job in found.jobs)


def test_what_is_wrong_is_refused_before_anything_runs(study: dict, tmp_path: Path) -> None:
    machines = vasomim.benchmark.Machines
    for wrong in (
        {'protocol': 'tinny'},
        {'only': ['method=three']},
        {'label_fractions': [2.0]},
        {'seeds': 0},
        {'machines': machines(jobs=0)},
        {'machines': machines(executor='slum')},
        {'machines': machines(executor='slurm', nodes=0)},
    ):
        with pytest.raises(ConfigError):
            vasomim.benchmark.run(**{**study, 'work_dir': tmp_path / 'work', **wrong})
    assert Store(study['results']).cells() == []
    with pytest.raises(ConfigError):
        vasomim.benchmark.status(tmp_path / 'elsewhere')


def test_pages_of_a_whole_study_are_not_overwritten_by_those_of_a_part(study: dict, tmp_path: Path) -> None:
    vasomim.benchmark.run(**study, work_dir=tmp_path / 'work')
    vasomim.benchmark.report(**study, output=tmp_path / 'pages')
    before = tree(tmp_path / 'pages')
    with pytest.raises(ConfigError, match='pages'):
        vasomim.benchmark.report(**study, only=['method=one'], output=tmp_path / 'pages')
    assert tree(tmp_path / 'pages') == before


def test_a_submission_is_written_and_computed_again(made: Made, tmp_path: Path) -> None:
    entries = [made.folder / 'entries.yaml']
    where = {'results': made.folder / 'results', 'work_dir': made.folder / 'work'}
    number = vasomim.benchmark.submit(tmp_path / 'a.zip', protocol=made.protocol.name, entries=entries, **where)
    assert number == 4
    assert (tmp_path / 'a.zip').read_bytes() == made.zip.read_bytes()
    done = vasomim.benchmark.verify(tmp_path / 'a.zip', entries=entries, data=made.folder / 'data')
    assert (done.study, done.whole, done.found.cells, done.found.passed) == (made.protocol.name, True, 4, True)
    chosen = {'entries': entries, 'data': made.folder / 'data', 'only': ['task=lesions']}
    assert not vasomim.benchmark.verify(tmp_path / 'a.zip', **chosen).whole
    with pytest.raises(ConfigError, match='tolerance'):
        vasomim.benchmark.verify(tmp_path / 'a.zip', tolerance=float('nan'))


def test_report_is_a_function_after_all_modules_are_imported() -> None:
    """A folder of modules by its name would take its place."""
    code = (
        'import importlib, pkgutil, vasomim.benchmark as b\n'
        'for found in pkgutil.walk_packages(b.__path__, "vasomim.benchmark."):\n'
        '    if found.name.count(".") < 3: importlib.import_module(found.name)\n'
        'import vasomim.benchmark.api\n'
        'print([name for name in b.FUNCTIONS if not callable(getattr(b, name))])\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'
