"""Write the committed leaderboard from the committed results, or fail if it differs: ``--check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vasomim.benchmark.entries import benchmark_folder, load_entries
from vasomim.benchmark.report import BEGIN, check_leaderboard, with_table, write_leaderboard
from vasomim.benchmark.store import Store, write_atomically
from vasomim.benchmark.table import build


def publish(folder: Path, protocol: str, check: bool) -> list[Path]:
    """Write the pages beside the results and the marked tables of README.md, docs/leaderboard.md and docs/results.md.

    Args:
        folder: The project's folder ``benchmark``.
        protocol: Name of the study.
        check: Write nothing.

    Returns:
        The files; with ``check`` those that differ.

    Raises:
        ConfigError: If there is no such protocol.
        StoreError: If a result is damaged.
    """
    entries = load_entries(own=folder)
    store, study = Store(folder / 'results'), entries.protocol(protocol)
    pages = (check_leaderboard if check else write_leaderboard)(store, folder / 'leaderboard', study, entries)
    table = build(store, study, entries).as_dict()
    docs = folder.parent / 'docs'
    for path in (folder.parent / 'README.md', docs / 'leaderboard.md', docs / 'results.md'):
        before = path.read_text(encoding='utf-8') if path.is_file() else ''
        if BEGIN in before and (after := with_table(before, table, path)) != before:
            pages.append(path)
            if not check:
                write_atomically(path, after)
    return pages


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; exit status 1 if ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing')
    parser.add_argument('--protocol', default='arcade_cpu', help='the study (default: %(default)s)')
    options = parser.parse_args(arguments)
    found = publish(benchmark_folder(), options.protocol, options.check)
    for path in found:
        print(f'{path}: differs from the results; run it without --check' if options.check else f'wrote {path}')
    return 1 if options.check and found else 0


if __name__ == '__main__':
    sys.exit(main())
