"""``vasomim benchmark``: plan, run, follow, report and submit comparisons of methods."""

from __future__ import annotations

import argparse
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vasomim.cores import cores
from vasomim.errors import ConfigError, printable
from vasomim.files import require_writable

if TYPE_CHECKING:
    from vasomim.benchmark.running.estimate import Estimate
    from vasomim.benchmark.running.executor import Executor
    from vasomim.benchmark.study.entries import Entries, Protocol
    from vasomim.benchmark.study.jobs import Job
    from vasomim.benchmark.study.plan import Plan, Settings

SUMMARY = 'Compare pre-training methods over tasks and seeds: plan, run, status, report, submit, verify.'

VERBS = {
    'plan': 'list the cells, what is missing on disk, and the predicted cost; exit status 1 if it cannot run',
    'run': 'carry out what is left',
    'status': 'show how far the last run is',
    'report': 'write the leaderboard from the results',
    'submit': 'pack predictions, results and environment into a zip file',
    'verify': 'compute every score of a zip file again and say what differs from it or from the study',
}
QUEUE = 'queue.json'  # What `status` reads, in the work directory.
LEADERBOARD = 'leaderboard'  # Folder of the pages, beside that of the results.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their options."""
    verbs = parser.add_subparsers(dest='verb', required=True, metavar='VERB')
    for verb, text in VERBS.items():
        own = verbs.add_parser(verb, help=text, description=f'{text[0].upper()}{text[1:]}.')
        if verb != 'verify':
            add_places(own)
        if verb != 'status':
            add_selection(own)
        if verb in ('plan', 'run'):
            own.add_argument('--data', metavar='DIR', help='takes the place of data/ in the entries')
            add_execution(own)
        if verb == 'status':
            own.add_argument('--once', action='store_true', help='print the table once instead of following the run')
        if verb == 'report':
            own.add_argument(
                '--pictures',
                action='store_true',
                help='let the fine-tuned models that are still in the work directory predict simulated frames',
            )
            own.add_argument(
                '--output',
                type=Path,
                metavar='DIR',
                help='where the pages go (default: leaderboard/ beside the results)',
            )
        if verb == 'submit':
            own.add_argument('zip', type=Path, metavar='ZIP', help='file to write')
        if verb == 'verify':
            own.add_argument('zip', type=Path, metavar='ZIP', help='file that `benchmark submit` wrote')
            own.add_argument('--data', metavar='DIR', help='takes the place of data/ in the entries')
            own.add_argument('--tolerance', type=float, default=1e-6, help='largest difference (default: %(default)g)')


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add where results and work directories are."""
    add = parser.add_argument
    add('--smoke', action='store_true', help='simulated data and tiny models: minutes on two cores')
    add('--results', type=Path, metavar='DIR', help='folder of the results (default: benchmark/results)')
    add('--work-dir', type=Path, metavar='DIR', help='where jobs train (default: work_dirs/benchmark)')


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add which cells are meant."""
    add = parser.add_argument
    add('--protocol', metavar='NAME', help='the study: a file of benchmark/protocols (default: main)')
    add('--entries', action='append', default=[], metavar='FILE', help='further tasks, methods and protocols (YAML)')
    add('--only', nargs='+', default=[], metavar='KEY=VALUE', help='task=NAME, method=NAME, seed=N, label_fraction=F')
    add('--seeds', type=int, metavar='N', help='number of seeds (default: those of the protocol)')
    add('--label-fraction', metavar='F,F,...', help='shares of the training labels: 0.1,0.5,1')


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add how it is run."""
    add = parser.add_argument
    add('--jobs', type=int, metavar='N', help='jobs at once, with a share of the cores each (default: 1, or one a GPU)')
    add('--gpus', metavar='N,N,...', help='accelerators that jobs take in turn')
    add('--no-estimate', action='store_true', help='time no short runs beforehand')
    add('--executor', choices=('local', 'slurm', 'submitit-local'), default='local', help='default: %(default)s')
    add('--slurm', nargs='+', default=[], metavar='KEY=VALUE', help='for sbatch: partition=gpu account=... time=600')
    add('--gpus-per-node', type=int, default=0, metavar='N', help='Slurm: accelerators of a node (default: none)')
    add('--nodes', type=int, default=1, metavar='N', help='Slurm: nodes of a pre-training (default: %(default)s)')
    add(
        '--processes-per-node',
        type=int,
        metavar='N',
        help='Slurm: processes of a pre-training on each node (default: one an accelerator, or one)',
    )


def run(options: argparse.Namespace) -> int:
    """Call the verb.

    Raises:
        ConfigError: If an entry or an option is wrong.
        StoreError: If results are damaged or cannot be written.
    """
    verb: dict[str, Callable[[argparse.Namespace], int]] = {
        'plan': show_plan,
        'run': carry_out,
        'status': show_status,
        'report': report,
        'submit': submit,
        'verify': verify,
    }
    return verb[options.verb](options)


def places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return the folder of the results and the work directory."""
    from vasomim.benchmark.study.loading import benchmark_folder

    smoke = options.smoke
    work_dir = options.work_dir or Path('work_dirs') / ('benchmark_smoke' if smoke else 'benchmark')
    results = options.results or (work_dir / 'results' if smoke else benchmark_folder() / 'results')
    return results, work_dir


def study(options: argparse.Namespace, only: Sequence[str]) -> tuple[Entries, Protocol]:
    """Return the entries, and the study or the part of it that is meant.

    Raises:
        ConfigError: If an entry or an option is wrong.
    """
    from vasomim.benchmark.study.entries import SMOKE
    from vasomim.benchmark.study.loading import load_entries
    from vasomim.benchmark.study.selection import select

    entries = load_entries(options.entries)
    protocol = entries.protocol(options.protocol or (SMOKE if options.smoke else 'main'))
    return entries, select(protocol, only, options.seeds, options.label_fraction)


def planned(options: argparse.Namespace) -> tuple[Entries, Plan, Executor, Settings]:
    """Set up what plan and run share: entries, the plan with its jobs, the executor, and where all is.

    Raises:
        ConfigError: If an entry or an option is wrong.
        StorageError: If nothing can be written where the run would write.
    """
    from vasomim.benchmark.results.store import STUDIES
    from vasomim.benchmark.running.executor import warm_up
    from vasomim.benchmark.study.plan import Settings, make_plan

    entries, protocol = study(options, options.only)
    results, work_dir = places(options)
    require_writable(work_dir / QUEUE)  # Before what takes minutes.
    if options.verb == 'run':
        require_writable(results / STUDIES / f'{protocol.name}.json')
    executor, threads = make_executor(options, work_dir)
    data = options.data
    if options.smoke:
        data = options.data or str(work_dir / 'data')
        simulate(entries, protocol, Path(data))
    if needs_libraries(entries, protocol):
        say('loading PyTorch and the OpenMMLab libraries once for all jobs')
        warm_up()
    processes = options.nodes * per_node(options) if options.executor != 'local' else 1
    settings = Settings(results, work_dir, data, tuple(options.entries), threads, processes)
    return entries, make_plan(entries, protocol, settings), executor, settings


def whole_study(entries: Entries, plan: Plan, settings: Settings) -> Plan:
    """Return the plan of the study that a selection takes part in: its report leaves out cells of earlier settings."""
    from vasomim.benchmark.study.plan import make_plan

    whole = plan.protocol.whole
    return plan if whole is None else make_plan(entries, whole, settings)


def needs_libraries(entries: Entries, protocol: Protocol) -> bool:
    """Return whether anything is trained: a task that is a function may do without."""
    kinds = {entries.method(name).kind for name in protocol.methods}
    return 'pretrain' in kinds or any(entries.task(name).config is not None for name in protocol.tasks)


def make_executor(options: argparse.Namespace, work_dir: Path) -> tuple[Executor, int]:
    """Return where jobs run, and the threads of each.

    Raises:
        ConfigError: If the numbers make no sense.
    """
    from vasomim.benchmark.running.cluster import SubmititExecutor, parse_cluster_options
    from vasomim.benchmark.running.executor import ForkExecutor

    gpus = tuple(name.strip() for name in options.gpus.split(',')) if options.gpus else ()
    slots = options.jobs if options.jobs is not None else max(1, len(gpus))
    if slots < 1:
        raise ConfigError('--jobs', f'{slots} is not positive.', 'Run at least one job at once.')
    threads = max(1, cores() // slots)
    if options.executor == 'local':
        return ForkExecutor(slots, threads, gpus), threads
    for name, number in (('--nodes', options.nodes), ('--processes-per-node', per_node(options))):
        if number < 1:
            raise ConfigError(name, f'{number} is not positive.', 'Take at least one.')
    slurm = parse_cluster_options(options.slurm)
    threads = slurm.pop('cpus_per_task', threads)
    cluster = 'slurm' if options.executor == 'slurm' else 'local'
    folder, gpus_per_node = work_dir / 'submitit', options.gpus_per_node
    return SubmititExecutor(slots, threads, folder, cluster, slurm, gpus_per_node, per_node(options)), threads


def per_node(options: argparse.Namespace) -> int:
    """Return how many processes of a pre-training run on each node of a cluster."""
    given: int | None = options.processes_per_node
    return max(1, options.gpus_per_node) if given is None else given


def simulate(entries: Entries, protocol: Protocol, root: Path) -> None:
    """Make the data of a smoke run, in a process of its own, as it uses threads."""
    from vasomim.benchmark.study import smoke

    log = root.parent / 'simulate.txt'
    say(f'simulating angiograms in {root}')
    begun = time.monotonic()
    if in_fork(partial(smoke.simulate, entries, protocol, root), log) != 0:
        raise ConfigError(log, 'the simulation failed.', 'Read this file.')
    say(f'simulated in {time.monotonic() - begun:.0f} s')


def in_fork(work: Callable[[], int], log: Path) -> int:
    """Call a function in a process of its own, and return its exit status."""
    from vasomim.benchmark.running.executor import ForkExecutor

    process = ForkExecutor(1, 1).start(work, log)
    while (status := process.poll()) is None:
        time.sleep(0.05)
    return status


def estimated(
    plan: Plan, jobs: list[Job], options: argparse.Namespace, executor: Executor
) -> tuple[list[Job], Estimate]:
    """Return the jobs that are left with what each will take, and the sum."""
    from vasomim.benchmark.running.estimate import device_here, estimate, time_jobs, with_predictions

    _, work_dir = places(options)
    gpus = tuple(options.gpus.split(',')) if options.gpus else ()
    where = ' '.join(['cluster', *sorted(options.slurm)]) if options.executor == 'slurm' else device_here(gpus)
    timings = {}
    if not options.no_estimate:
        timings = time_jobs(jobs, executor, (work_dir / 'timings').resolve(), where, say)
    found = estimate(jobs, timings, executor.slots)
    return with_predictions(jobs, found), found


def show_plan(options: argparse.Namespace) -> int:
    """Print the plan."""
    import rich
    from rich.markup import escape
    from rich.table import Table

    from vasomim.benchmark.results.store import Store
    from vasomim.benchmark.running.run import left_of
    from vasomim.benchmark.study.left_behind import left_behind

    entries, plan, executor, settings = planned(options)
    results, work_dir = places(options)
    damaged = Store(results).damaged(entries.averaged)
    for damage in damaged:
        say(f'damaged: {damage}')
    left = plan.jobs if damaged else left_of(plan.jobs)
    jobs, found = ([], None) if plan.problems else estimated(plan, left, options, executor)
    names = {job.name for job in left}
    title = escape(printable(plan.protocol.title))
    table = Table(title=f'{title}: {len(plan.cells)} cells, {len(plan.pretrainings)} pre-trainings')
    for column in ('job', 'name', 'state', 'seconds'):
        table.add_column(column, justify='right' if column == 'seconds' else 'left')
    for job in plan.jobs:
        seconds = found.seconds.get(job.name) if found else None
        state = 'to run' if job.name in names else 'finished' if job.finished() else 'not needed'
        table.add_row(job.title, job.name, state, f'{seconds:,.0f}' if seconds is not None else '')
        if job.config:
            job.write()
    rich.print(table)
    if lost := left_behind(whole_study(entries, plan, settings), Store(results)):
        print(lost)
    print(f'resolved configs: {work_dir}/cells/NAME/config.py and {work_dir}/pretrainings/NAME/config.py')
    if found is not None:
        print(cost_line(jobs, found, options))
    if plan.problems:
        print(f'cannot run, {len(plan.problems)} problems:')
        for problem in plan.problems:
            print(f'  {problem}')
        return 1
    free = free_disk(work_dir)
    if found is not None and found.disk_gb > free:
        print(f'cannot run: {found.disk_gb:.1f} GB of disk are needed, {free:.1f} GB are free at {work_dir}')
        return 1
    return 0


def cost_line(jobs: list[Job], found: Estimate, options: argparse.Namespace) -> str:
    """Return the predicted cost in words."""
    if not jobs:
        return 'nothing is left to run'
    if not found.seconds:
        return f'{len(jobs)} jobs; their cost was not predicted'
    unit = 'GPU-hours' if options.gpus or os.path.exists('/dev/nvidia0') else 'hours of work'
    return (
        f'{len(jobs)} jobs: {found.hours:.2f} {unit}, {duration(found.wall)} from start to end, '
        f'up to {found.memory_gb:.1f} GB of memory a job, {found.disk_gb:.2f} GB of disk'
    )


def free_disk(folder: Path) -> float:
    """Return the free GB where a folder is, or will be."""
    import shutil

    while not folder.is_dir():
        folder = folder.resolve().parent
    return shutil.disk_usage(folder).free / 1e9


def duration(seconds: float) -> str:
    """Return seconds as h:mm:ss."""
    whole = math.ceil(seconds)
    return f'{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}'


def carry_out(options: argparse.Namespace) -> int:
    """Run what is left, compare predicted with actual cost, and write the report of a smoke run.

    Raises:
        ConfigError: If data or checkpoints are missing.
    """
    from vasomim.benchmark.results.store import Store
    from vasomim.benchmark.running.claims import Claim
    from vasomim.benchmark.running.run import compare, left_of, run_jobs, write_queue
    from vasomim.benchmark.study.left_behind import left_behind

    begun = time.monotonic()
    entries, plan, executor, settings = planned(options)
    results, work_dir = places(options)
    if plan.problems:
        listed = '\n    '.join(str(problem).replace('\n', ' ') for problem in plan.problems)
        raise ConfigError(
            f'protocol {plan.protocol.name}',
            f'{len(plan.problems)} things are missing:\n    {listed}',
            'Provide them, or choose cells that can run by --only task=NAME.',
        )
    for path, error in Store(results).set_aside_damaged(entries.averaged):
        say(f'set aside as {path}: {error.what} Its cell is computed again.')
    whole = whole_study(entries, plan, settings)
    if lost := left_behind(whole, Store(results)):
        say(lost)
    Store(results).write_study(whole.protocol.name, {cell.place: cell.name for cell in whole.cells})
    jobs, found = estimated(plan, left_of(plan.jobs), options, executor)
    done = len(plan.cells) - sum(job.kind == 'cell' for job in jobs)
    say(f'{len(plan.cells)} cells, {done} of them finished before; {cost_line(jobs, found, options)}')
    by_name = {job.name: job for job in jobs}
    alive = (work_dir / 'runs' / f'{socket.gethostname()}-{os.getpid()}').resolve()
    queue = [by_name.get(job.name, job) for job in plan.jobs]
    started = time.monotonic()
    with Claim(alive):  # Before `status` can know of it.
        write_queue(work_dir / QUEUE, queue, executor.slots, alive)
        progress = run_jobs(jobs, executor, say)
    alive.unlink(missing_ok=True)
    say(
        f'{len(progress.finished)} jobs finished, {len(progress.failed)} failed, {len(progress.blocked)} not run, '
        f'{len(progress.by_others)} done by another run; {duration(time.monotonic() - begun)} in all'
    )
    for line in compare(progress, time.monotonic() - started, found.wall if found.seconds else None):
        say(line)
    if options.smoke:
        folder = results.parent / LEADERBOARD
        draw_pictures(results, work_dir, folder, plan.protocol, entries)
        write_report(results, folder, plan.protocol, entries)  # What was chosen only.
    return 1 if progress.failed or progress.blocked else 0


def show_status(options: argparse.Namespace) -> int:
    """Show how far the last run is, again and again until it is done."""
    from vasomim.benchmark.running.status import follow

    _, work_dir = places(options)
    return follow(work_dir / QUEUE, options.once)


def report(options: argparse.Namespace) -> int:
    """Write the leaderboard."""
    results, work_dir = places(options)
    entries, protocol = study(options, options.only)
    folder = options.output or results.parent / LEADERBOARD
    require_writable(folder / 'LEADERBOARD.md')
    check_pages(folder, protocol)
    if options.pictures:
        draw_pictures(results, work_dir, folder, protocol, entries)
    write_report(results, folder, protocol, entries)
    return 0


def check_pages(folder: Path, protocol: Protocol) -> None:
    """Check that a folder holds no pages of another study, or of more of this one.

    Raises:
        ConfigError: If it does.
    """
    from vasomim.benchmark.report.pages import shown_in

    shown = shown_in(folder)
    if shown is None:
        return
    there, more_of = shown
    chosen = (protocol.tasks, protocol.methods, protocol.seeds, protocol.label_fractions)
    if protocol.whole is not None and any(more - set(less) for more, less in zip(more_of, chosen, strict=True)):
        raise ConfigError(
            folder, 'it holds pages of more than this part of the study.', 'Name another folder by --output.'
        )
    if there != protocol.name:
        raise ConfigError(
            folder,
            f"it holds the pages of study '{there}', which those of '{protocol.name}' would overwrite.",
            'Name another folder by --output, or the study by --protocol.',
        )


def draw_pictures(results: Path, work_dir: Path, folder: Path, protocol: Protocol, entries: Entries) -> None:
    """Draw what the models see for the leaderboard's page, in a process of its own, whose failure costs no figures."""
    from vasomim.benchmark.report.pages import PICTURES
    from vasomim.benchmark.report.panels import draw
    from vasomim.benchmark.results.store import Store

    log = work_dir / 'pictures.txt'
    if in_fork(partial(draw, Store(results), work_dir, folder / PICTURES, protocol, entries), log) != 0:
        say(f'the pictures could not be drawn: see {log}')


def write_report(results: Path, folder: Path, protocol: Protocol, entries: Entries) -> None:
    """Write the pages of the leaderboard and say where they are."""
    from vasomim.benchmark.report.pages import write_leaderboard
    from vasomim.benchmark.results.store import Store

    for path in write_leaderboard(Store(results), folder, protocol, entries):
        say(f'wrote {path}')


def submit(options: argparse.Namespace) -> int:
    """Pack a submission."""
    from vasomim.benchmark.submission.pack import pack

    require_writable(options.zip)
    results, work_dir = places(options)
    entries, protocol = study(options, options.only)
    number = pack(options.zip, results, work_dir, protocol, entries)
    print(f'{options.zip}: {number} cells')
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check a submission; exit status 1 if something differs, is less than the study, or nothing could be checked."""
    from vasomim.benchmark.study.loading import load_entries
    from vasomim.benchmark.study.selection import select
    from vasomim.benchmark.submission.archive import Archive
    from vasomim.benchmark.submission.verify import CLAIMED, VERIFIED
    from vasomim.benchmark.submission.verify import verify as check

    if not 0 <= options.tolerance < math.inf:
        raise ConfigError(
            '--tolerance', f'{options.tolerance} is no difference of scores.', 'Take a number such as 1e-6.'
        )
    entries = load_entries(options.entries)
    with Archive(options.zip) as archive:
        protocol = entries.protocol(options.protocol or archive.manifest['study'])
        part = select(protocol, options.only, options.seeds, options.label_fraction)
        found = check(archive, part, entries, options.data, options.tolerance)
    for line in found.differences:
        print(printable(line))
    whole = 'all of it' if part == protocol else 'the part that was asked for'
    counted = f'{found.figures} scores of {found.cells} cells computed again, {len(found.differences)} differences'
    print(f"study '{protocol.name}', {whole}: {counted}")
    if found.passed:
        for title, fields in (('verified', VERIFIED), ('only claimed', CLAIMED)):
            print(f'{title}:')
            for name, what in fields.items():
                print(f'  {name}: {what}')
    return 0 if found.passed else 1


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
