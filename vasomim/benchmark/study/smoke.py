"""Data for `benchmark run --smoke`: simulated where they are needed, small enough for a laptop."""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path

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
    from vasomim.cli import extract, prepare

    frames = protocol.synthetic.get('frames', {})
    size = int(protocol.synthetic.get('size', SIZE))
    published = filter(None, (find_set(entries.task(name).dataset) for name in protocol.tasks))
    for source in sorted({dataset.name for dataset, _ in published if dataset.simulate}):
        options = argparse.Namespace(
            purpose='downstream',
            kind='synthetic',
            source=source,
            destination=root / source,
            frames=frames.get(source, FRAMES),
            size=size,
            jobs=jobs,
            seed=0,
            val=0.15,
            test=None,
            group=None,
            threshold=None,
            skip_missing=False,
        )
        with contextlib.redirect_stdout(io.StringIO()):
            prepare.run(options)
    if any(entries.method(name).kind == 'pretrain' for name in protocol.methods):
        from vasomim.synthetic.writer import synthesize

        pool = root / 'pretraining'
        synthesize(pool, 'folder', frames.get('pretraining', FRAMES), 1, size, jobs)
        parser = argparse.ArgumentParser()
        extract.add_arguments(parser)
        with contextlib.redirect_stdout(io.StringIO()):
            extract.run(parser.parse_args([str(pool)]))
    return 0
