"""Data for `benchmark run --smoke`: simulated where they are needed, small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

from vasomim import apis
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.prepare.arcade import read_arcade
from vasomim.prepare.destination import reserved
from vasomim.prepare.published import find_root
from vasomim.prepare.sets import read_caxf, read_stenosis, read_xcav
from vasomim.prepare.splitting import Choices
from vasomim.prepare.write import write_plan

PROTOCOL = 'smoke'
# Which simulated set holds the data of a data set.
SOURCES = {
    'arcade_v': 'arcade',
    'arcade_vs': 'arcade',
    'arcade_s': 'arcade',
    'xcav': 'xcav',
    'caxf': 'caxf',
    'stenosis': 'stenosis',
}
READERS = {'xcav': read_xcav, 'caxf': read_caxf, 'stenosis': read_stenosis}
FRAMES = {'arcade': 64, 'xcav': 64, 'caxf': 24, 'stenosis': 64, 'pretraining': 64}
SIZE = 128


def simulate(entries: Entries, protocol: Protocol, root: Path, jobs: int | None = None) -> int:
    """Simulate and prepare what a protocol reads, below ``root`` as the entries say below ``data/``.

    What is there already is kept, so that a second call does nothing.

    Returns:
        0.
    """
    frames = {**FRAMES, **protocol.synthetic.get('frames', {})}
    size = int(protocol.synthetic.get('size', SIZE))
    wanted = {SOURCES[entries.task(name).dataset] for name in protocol.tasks if entries.task(name).dataset in SOURCES}
    for source in sorted(wanted):
        prepare(source, root / source, frames[source], size, jobs)
    if any(entries.method(name).kind == 'pretrain' for name in protocol.methods):
        pool = root / 'pretraining'
        apis.synthesize(pool, layout='folder', frames=frames['pretraining'], seed=1, size=size, jobs=jobs)
        apis.extract(pool)
    return 0


def prepare(source: str, destination: Path, frames: int, size: int, jobs: int | None) -> None:
    """Simulate a published dataset beside a folder, and prepare it there."""
    published = destination.with_name(f'{destination.resolve().name}_published')
    choices = Choices(seed=0, val=0.15)
    with reserved(destination):
        apis.synthesize(published, layout=source, frames=frames, size=size, jobs=jobs)
        root = find_root(source, published)
        for plan in read_arcade(root) if source == 'arcade' else READERS[source](root, choices):
            write_plan(plan, destination / plan.name if source == 'arcade' else destination)
