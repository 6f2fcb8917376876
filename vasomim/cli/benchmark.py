"""``vasomim benchmark``: plan, run, follow, report and submit comparisons of methods."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich
from rich.markup import escape
from rich.table import Table

from vasomim import benchmark
from vasomim.errors import printable

SUMMARY = 'Compare pre-training methods over tasks and seeds: plan, run, status, report, submit, verify.'

VERBS = {
    'plan': 'list the cells, what is missing on disk, and the predicted cost; exit status 1 if it cannot run',
    'run': 'carry out what is left',
    'status': 'show how far the last run is',
    'report': 'write the leaderboard from the results',
    'submit': 'pack predictions, results and environment into a zip file',
    'verify': 'compute every score of a zip file again and say what differs from it or from the study',
}


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
        'plan': plan,
        'run': carry_out,
        'status': status,
        'report': report,
        'submit': submit,
        'verify': verify,
    }
    return verb[options.verb](options)


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    """Return which cells are meant, as arguments of the functions of :mod:`vasomim.benchmark`."""
    fractions = options.label_fraction
    return {
        'protocol': options.protocol,
        'entries': options.entries,
        'only': options.only,
        'seeds': options.seeds,
        'label_fractions': None if fractions is None else fractions.split(','),
    }


def places(options: argparse.Namespace) -> dict[str, Any]:
    """Return where results and work directories are, as :func:`chosen`."""
    return {'smoke': options.smoke, 'results': options.results, 'work_dir': options.work_dir}


def execution(options: argparse.Namespace) -> dict[str, Any]:
    """Return how it is run, as :func:`chosen`."""
    machines = benchmark.Machines(
        jobs=options.jobs,
        gpus=tuple(name.strip() for name in options.gpus.split(',')) if options.gpus else (),
        executor=options.executor,
        slurm=tuple(options.slurm),
        gpus_per_node=options.gpus_per_node,
        nodes=options.nodes,
        processes_per_node=options.processes_per_node,
    )
    return {'data': options.data, 'machines': machines, 'estimated': not options.no_estimate, 'say': say}


def plan(options: argparse.Namespace) -> int:
    """Print the plan; exit status 1 if it cannot run."""
    study = benchmark.plan(**chosen(options), **places(options), **execution(options))
    title = escape(printable(study.title))
    table = Table(title=f'{title}: {study.cells} cells, {study.pretrainings} pre-trainings')
    for column in ('job', 'name', 'state', 'seconds'):
        table.add_column(column, justify='right' if column == 'seconds' else 'left')
    for job in study.jobs:
        table.add_row(job.title, job.name, job.state, f'{job.seconds:,.0f}' if job.seconds is not None else '')
    rich.print(table)
    if study.left_behind:
        print(study.left_behind)
    folder = study.work_dir
    print(f'resolved configs: {folder}/cells/NAME/config.py and {folder}/pretrainings/NAME/config.py')
    if study.cost is not None:
        print(study.cost)
    if study.problems:
        print(f'cannot run, {len(study.problems)} problems:')
        for problem in study.problems:
            print(f'  {problem}')
    if study.lacking_disk:
        print(f'cannot run: {study.lacking_disk}')
    return int(bool(study.problems or study.lacking_disk))


def carry_out(options: argparse.Namespace) -> int:
    """Run what is left; exit status 1 if a job failed or could not run."""
    done = benchmark.run(**chosen(options), **places(options), **execution(options))
    show_pages(done.pages)
    return int(done.failed + done.blocked > 0)


def status(options: argparse.Namespace) -> int:
    """Show how far the last run is, again and again until it is done."""
    from vasomim.benchmark.running.status import follow
    from vasomim.benchmark.study.choosing import Places

    return follow(Places.of(None, options.work_dir, options.smoke).queue, options.once)


def report(options: argparse.Namespace) -> int:
    """Write the leaderboard."""
    where = {'pictures': options.pictures, 'output': options.output}
    show_pages(benchmark.report(**chosen(options), **places(options), **where, say=say))
    return 0


def show_pages(pages: tuple[Path, ...]) -> None:
    """Print which pages were written."""
    for path in pages:
        say(f'wrote {path}')


def submit(options: argparse.Namespace) -> int:
    """Pack a submission."""
    number = benchmark.submit(options.zip, **chosen(options), **places(options))
    print(f'{options.zip}: {number} cells')
    return 0


def verify(options: argparse.Namespace) -> int:
    """Check a submission; exit status 1 if something differs, is less than the study, or nothing could be checked."""
    from vasomim.benchmark.submission.verify import CLAIMED, VERIFIED

    done = benchmark.verify(options.zip, **chosen(options), data=options.data, tolerance=options.tolerance)
    found = done.found
    for line in found.differences:
        print(printable(line))
    whole = 'all of it' if done.whole else 'the part that was asked for'
    counted = f'{found.figures} scores of {found.cells} cells computed again, {len(found.differences)} differences'
    print(f"study '{done.study}', {whole}: {counted}")
    if found.passed:
        for title, fields in (('verified', VERIFIED), ('only claimed', CLAIMED)):
            print(f'{title}:')
            for name, what in fields.items():
                print(f'  {name}: {what}')
    return 0 if found.passed else 1


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)
