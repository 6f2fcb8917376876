"""Jobs of a cluster: submitit's own processes, and a real Slurm where it is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmark import slurm
from tests.benchmark.fakes import ENTRIES
from tests.benchmark.studies import COMMON, benchmark, finish, prepare, smoke_protocol
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.running.cluster import SubmititExecutor, parse_cluster_options
from vasomim.errors import ConfigError


@pytest.fixture(scope='module')
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str | None, str]]:
    """The SLURM_CONF of a real Slurm; None with the reason where there is none."""
    if missing := slurm.missing():
        yield None, f'Slurm is not installed ({", ".join(missing)}): make slurm'
        return
    with contextlib.ExitStack() as stack:
        try:
            found, reason = stack.enter_context(slurm.slurm(tmp_path_factory.mktemp('slurm'))), ''
        except RuntimeError as error:  # Of this machine, not of the project.
            found, reason = None, f'Slurm does not start here: {error}'
        yield found, reason


@pytest.fixture
def conf(started: tuple[str | None, str]) -> str:
    found, reason = started
    if found is None:
        pytest.skip(reason)
    return found


def fake_study(folder: Path, function: str, seeds: int) -> tuple[str, ...]:
    (folder / 'fakes.yaml').write_text(ENTRIES.format(function=function, seeds=seeds))
    (folder / 'marks').mkdir()
    return ('run', '--entries', 'fakes.yaml', '--protocol', 'tiny', '--results', 'results', '--work-dir', 'work')


@pytest.mark.slow
def test_cells_run_as_jobs_of_slurm(tmp_path, conf) -> None:
    command = (*fake_study(tmp_path, 'slow', 2), '--executor', 'slurm', '--jobs', '2', '--slurm', 'partition=main')
    variables = {'SLURM_CONF': conf, 'FAKE_MARKS': str(tmp_path / 'marks')}
    output = finish(benchmark(*command, cwd=tmp_path, **variables))
    assert '4 jobs finished, 0 failed' in output
    cells = Store(tmp_path / 'results').cells()
    assert [(cell.method, cell.seed) for cell in cells] == [('one', 0), ('one', 1), ('two', 0), ('two', 1)]
    assert len(list((tmp_path / 'work' / 'submitit').glob('*/*_submission.sh'))) == 4
    assert 'nothing is left' in finish(benchmark(*command, cwd=tmp_path, **variables))


@pytest.mark.slow
def test_a_job_that_dies_is_recorded_without_slurms_accounting(tmp_path, conf) -> None:
    command = (*fake_study(tmp_path, 'one_is_killed', 1), '--executor', 'slurm', '--jobs', '2')
    process = benchmark(*command, cwd=tmp_path, SLURM_CONF=conf)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and '1 jobs finished, 1 failed' in output, output
    failed = Store(tmp_path / 'results').cells('failed')[0]
    assert failed.error is not None and 'ended as FAILED' in failed.error['message']
    log = (tmp_path / 'work' / 'cells' / failed.cell / failed.error['log']).read_text()
    assert log.startswith('working\n') and 'Killed' in log


def test_a_job_that_has_to_make_room_starts_again_and_finishes(tmp_path) -> None:
    # Of submitit's own executor: a real Slurm lets such a job wait for two minutes.
    command = (*fake_study(tmp_path, 'interrupted', 1), '--executor', 'submitit-local', '--only', 'method=one')
    output = finish(benchmark(*command, cwd=tmp_path, FAKE_MARKS=str(tmp_path / 'marks')))
    assert '1 jobs finished, 0 failed' in output
    assert sorted(path.name for path in (tmp_path / 'marks').iterdir()) == ['0', '1']


@pytest.mark.slow
def test_what_slurm_refuses_ends_the_run_with_its_words(tmp_path, conf) -> None:
    command = (*fake_study(tmp_path, 'quick', 1), '--executor', 'slurm', '--slurm', 'partition=mian')
    process = benchmark(*command, cwd=tmp_path, SLURM_CONF=conf)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and 'the job is refused' in output and 'invalid partition' in output, output


@pytest.mark.slow
def test_two_processes_pretrain_and_one_fine_tunes(tmp_path, started) -> None:
    conf, _ = started
    executor, variables = ('submitit-local', {}) if conf is None else ('slurm', {'SLURM_CONF': conf})
    prepare(tmp_path, smoke_protocol(['caxf'], ['mae'], {'caxf': 12, 'pretraining': 40}, epochs=1), [])
    command = ('run', *COMMON, '--results', 'results', '--work-dir', 'work', '--executor', executor, '--no-estimate')
    output = finish(benchmark(*command, '--processes-per-node', '2', '--jobs', '2', cwd=tmp_path, **variables))
    assert '2 jobs finished, 0 failed' in output
    store = Store(tmp_path / 'results')
    pretraining, cell = store.pretrainings()[0], store.cells()[0]
    assert pretraining.inputs['processes'] == pretraining.cost['devices'] == 2 and len(pretraining.curve) == 1
    assert cell.weights is not None and cell.weights['file_sha256'] == pretraining.weights['file_sha256']
    folder = tmp_path / 'work' / 'pretrainings' / pretraining.pretraining
    assert '2 processes' in (folder / 'log.txt').read_text() and (folder / 'log.1.txt').is_file()


def test_options_for_sbatch_are_checked(tmp_path) -> None:
    assert parse_cluster_options(['partition=gpu', 'time=60']) == {'partition': 'gpu', 'time': 60}
    for wrong in ('partition', 'time=1:00:00', 'cpus_per_task=0'):
        with pytest.raises(ConfigError, match='--slurm'):
            parse_cluster_options([wrong])
    executor = SubmititExecutor(1, 1, tmp_path, options={'partitoin': 'gpu'})
    with pytest.raises(ConfigError, match="Did you mean 'partition'"):
        executor.settings(1)


def test_processes_are_spread_over_nodes(tmp_path) -> None:
    executor = SubmititExecutor(1, 4, tmp_path, options={'mem': '8GB'}, gpus_per_node=8, processes_per_node=8)
    wanted = {'nodes': 2, 'tasks_per_node': 8, 'gpus_per_node': 8, 'cpus_per_task': 4, 'slurm_mem': '8GB'}
    assert wanted.items() <= executor.settings(16).items()
    assert {'nodes': 1, 'tasks_per_node': 1, 'gpus_per_node': 1}.items() <= executor.settings(1).items()
