"""``python -m vasomim VERB``: the console script where it is not on the path."""

from vasomim.cli import entry

entry()
