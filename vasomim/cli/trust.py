"""The option by which a user trusts the config that a checkpoint carries."""

from __future__ import annotations

import argparse


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust-config`` to a verb that builds from the config in a checkpoint."""
    parser.add_argument(
        '--trust-config',
        action='store_true',
        help="build whatever the checkpoint's own config says, be it code: for files of people whom you trust "
        '(default: classes and values that run none)',
    )
