"""Data for `benchmark run --smoke`: simulated where they are needed, small enough for a laptop."""

from __future__ import annotations

from pathlib import Path

from vasomim import apis
from vasomim.benchmark.study.entries import Entries, Protocol
from vasomim.prepare.catalog import find_set

PROTOCOL = 'smoke'
FRAMES = 64
SIZE = 128


def simulate(entries: Entries, protocol: Protocol, root: Path, jobs: int | None = None) -> int:
    """Simulate and prepare what a protocol reads, below ``root`` as the entries say below ``data/``.

    What is there already is kept, so that a second call does nothing.

    Returns:
        0.
    """
    frames = protocol.synthetic.get('frames', {})
    size = int(protocol.synthetic.get('size', SIZE))
    published = filter(None, (find_set(entries.task(name).dataset) for name in protocol.tasks))
    for source in sorted({dataset.name for dataset, _ in published if dataset.simulate}):
        number = frames.get(source, FRAMES)
        apis.prepare_downstream('synthetic', source, root / source, val=0.15, frames=number, size=size, jobs=jobs)
    if any(entries.method(name).kind == 'pretrain' for name in protocol.methods):
        pool, number = root / 'pretraining', frames.get('pretraining', FRAMES)
        apis.synthesize(pool, layout='folder', frames=number, seed=1, size=size, jobs=jobs)
        apis.extract(pool)
    return 0
