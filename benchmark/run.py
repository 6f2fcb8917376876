"""``python benchmark/run.py VERB``: the same as ``vasomim benchmark VERB``."""

from vasomim.cli import main

if __name__ == '__main__':
    raise SystemExit(main('benchmark'))
