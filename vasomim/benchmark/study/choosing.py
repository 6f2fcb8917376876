"""Which study is meant, what part of it, and where its results and its work are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vasomim.benchmark.study.entries import SMOKE, Entries, Protocol
from vasomim.benchmark.study.loading import benchmark_folder, load_entries
from vasomim.benchmark.study.selection import select

MAIN = 'main'  # The study unless one is named.


@dataclass(frozen=True)
class Choice:
    """A study as a caller names it.

    Attributes:
        protocol: Its name; None means 'main', of a smoke run 'smoke'.
        entries: Files of further tasks, methods and protocols.
        only: Which cells, ``KEY=VALUE`` each: task, method, seed, label_fraction.
        seeds: Number of seeds; None means those of the protocol.
        label_fractions: Shares of the training labels, in (0, 1]; None means those of the protocol.
    """

    protocol: str | None = None
    entries: Sequence[str | Path] = ()
    only: Sequence[str] = ()
    seeds: int | None = None
    label_fractions: Sequence[float | str] | None = None

    def load(self, default: str = MAIN) -> tuple[Entries, Protocol, Protocol]:
        """Return all entries, the study, and the part of it that is meant.

        Args:
            default: The study where none is named.

        Raises:
            ConfigError: If an entry or the choice is wrong.
        """
        entries = load_entries(self.entries)
        whole = entries.protocol(self.protocol or default)
        fractions = None if self.label_fractions is None else ','.join(map(str, self.label_fractions))
        return entries, whole, select(whole, self.only, self.seeds, fractions)


@dataclass(frozen=True)
class Places:
    """Where results are kept, and where jobs train."""

    results: Path
    work_dir: Path

    @classmethod
    def of(cls, results: str | Path | None, work_dir: str | Path | None, smoke: bool) -> Places:
        """Return the places that were named, or the usual ones: a smoke run keeps all in its work directory."""
        work = Path(work_dir or Path('work_dirs') / ('benchmark_smoke' if smoke else 'benchmark'))
        return cls(Path(results or (work / 'results' if smoke else benchmark_folder() / 'results')), work)

    @property
    def queue(self) -> Path:
        """What :func:`vasomim.benchmark.status` reads: the jobs of the last run."""
        return self.work_dir / 'queue.json'

    @property
    def pages(self) -> Path:
        """Folder of the leaderboard's pages, beside that of the results."""
        return self.results.parent / 'leaderboard'


def default_study(smoke: bool) -> str:
    """Return the name of the study where none is named."""
    return SMOKE if smoke else MAIN
