"""Write the pages of all studies with committed results, or fail if they differ: ``--check``."""

from __future__ import annotations

import sys
from pathlib import Path

from vasomim.benchmark.reporting.pages import check_leaderboard, markers, with_table, write_leaderboard
from vasomim.benchmark.reporting.table import build
from vasomim.benchmark.results.store import Store
from vasomim.benchmark.study.loading import benchmark_folder, load_entries
from vasomim.files import write_whole

CHECK = '--check'
FIRST = 'arcade_cpu'  # Its pages lie in the folder of the leaderboard, those of another study in one of its name there.
TEXTS = ('README.md', 'docs/leaderboard.md', 'docs/results.md')


def publish(folder: Path, check: bool) -> list[Path]:
    """Write the pages of each study, and its table where README.md or a document has the study's markers.

    Args:
        folder: The project's folder ``benchmark``, with ``results``.
        check: Write nothing.

    Returns:
        The files; with ``check`` those that differ.

    Raises:
        ConfigError: If a study has no protocol.
        StoreError: If a result is damaged.
    """
    entries, store = load_entries(own=folder), Store(folder / 'results')
    found: list[Path] = []
    for name in store.studies():
        study = entries.protocol(name)
        pages = folder / 'leaderboard' / ('' if name == FIRST else name)
        found += (check_leaderboard if check else write_leaderboard)(store, pages, study, entries)
        table = build(store, study, entries).as_dict()
        for path in (folder.parent / text for text in TEXTS):
            before = path.read_text(encoding='utf-8') if path.is_file() else ''
            if markers(name)[0] in before and (after := with_table(before, table, path)) != before:
                found.append(path)
                if not check:
                    write_whole(path, after)
    return list(dict.fromkeys(found))


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; exit status 1 if ``--check`` finds a difference."""
    given = sys.argv[1:] if arguments is None else arguments
    if given not in ([], [CHECK]):
        print(f'Write the pages of all studies with committed results; {CHECK} writes nothing.', file=sys.stderr)
        return 2
    check = bool(given)
    found = publish(benchmark_folder(), check)
    for path in found:
        print(f'{path}: differs from the results; run it without --check' if check else f'wrote {path}')
    return 1 if check and found else 0


if __name__ == '__main__':
    sys.exit(main())
