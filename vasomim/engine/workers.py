"""Errors that a loader's worker process has raised."""

from __future__ import annotations

import re

from vasomim import errors

CAUGHT = re.compile(r'Caught (\w+) in DataLoader worker process')


def worker_error(error: RuntimeError) -> errors.VasoMIMError | None:
    """Return the error of ours behind the one that PyTorch raises for a worker; None where there is none.

    PyTorch rebuilds a worker's error from its traceback as the only argument. Errors of more arguments than that come
    out as a ``RuntimeError`` with the traceback as its text, which nobody wants to read for a damaged file.

    Args:
        error: What iterating over a ``DataLoader`` raised.
    """
    caught = CAUGHT.match(str(error))
    kind = getattr(errors, caught[1], None) if caught else None
    if not (isinstance(kind, type) and issubclass(kind, errors.VasoMIMError)):
        return None
    raised = str(error).rpartition(f'\nvasomim.errors.{kind.__name__}: ')[2]
    head, _, cure = raised.rstrip().partition('\n  ')
    where, _, what = head.partition(': ')
    return kind(where, what, cure)
