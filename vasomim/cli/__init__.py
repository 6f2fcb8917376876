"""The command line: ``vasomim VERB ...``, and the same verbs as ``tools/VERB.py``.

A verb is a module with ``SUMMARY``, ``add_arguments(parser)`` and ``run(options) -> int``. Only the verb that is called
is imported. The list of verbs reads ``SUMMARY`` from the source instead, so that it needs none of the libraries.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import io
import os
import sys
from pathlib import Path

from vasomim import __version__
from vasomim.errors import StorageError, VasoMIMError, did_you_mean

VERBS = {
    'doctor': 'vasomim.cli.doctor',
    'synthesize': 'vasomim.cli.synthesize',
    'extract': 'vasomim.cli.extract',
    'pack': 'vasomim.cli.pack',
    'train': 'vasomim.cli.train',
    'test': 'vasomim.cli.test',
    'predict': 'vasomim.cli.predict',
    'extract-features': 'vasomim.cli.extract_features',
    'export': 'vasomim.cli.export',
    'visualize': 'vasomim.cli.visualize',
    'convert': 'vasomim.cli.convert',
    'prepare': 'vasomim.cli.prepare',
    'check': 'vasomim.cli.check',
    'benchmark': 'vasomim.cli.benchmark',
}

EXIT_ERROR = 2
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE, what shells report for a program whose reader has gone.
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report for a program stopped by Ctrl-C.


def main(verb: str | None = None, argv: list[str] | None = None) -> int:
    """Run one verb.

    Args:
        verb: The verb; None takes it from the first argument, as the console script does.
        argv: The arguments after the program's name; None means those of the process.

    Returns:
        The exit status: the verb's own, 2 for an error of the user's, 130 after Ctrl-C, 141 where the reader of a pipe
        has gone.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = 'vasomim' if verb is None else Path(sys.argv[0]).name
    if verb is None:
        if not arguments or arguments[0] in ('-h', '--help'):
            print(overview())
            return 0
        if arguments[0] in ('-V', '--version'):
            print(f'vasomim {__version__}')
            return 0
        verb = arguments.pop(0)
        program = f'vasomim {verb}'
    if verb not in VERBS:
        hint = did_you_mean(verb, VERBS) or ' `vasomim --help` lists the verbs.'
        print(f"vasomim: unknown verb '{verb}'.{hint}", file=sys.stderr)
        return EXIT_ERROR
    for stream in (sys.stdout, sys.stderr):  # Names of files may hold what the terminal's encoding does not.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    try:
        module = importlib.import_module(VERBS[verb])
        parser = argparse.ArgumentParser(prog=program, description=module.SUMMARY)
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(arguments)))
    except VasoMIMError as error:
        return refuse(error)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition('.')[0] == 'vasomim':
            raise  # A fault of this package, which its traceback explains best.
        print(
            f'StackError: {error.name} is not installed.\n  `vasomim doctor` names the command that mends it.',
            file=sys.stderr,
        )
        return EXIT_ERROR
    except BrokenPipeError:
        sys.stdout = open(os.devnull, 'w')  # noqa: SIM115 - `head` has seen enough; Python flushes once more at its end
        return EXIT_BROKEN_PIPE
    except UnicodeEncodeError as error:  # Of a library: what this project writes is printable.
        what = 'it is not UTF-8, and a library that is needed here takes no such name.'
        return refuse(VasoMIMError(error.object[:200], what, 'Rename it, or copy it to a place of another name.'))
    except OSError as error:
        return refuse(StorageError.of(error.filename or f'vasomim {verb}', error))
    except MemoryError as error:
        what = f'memory is short{f": {error}" if str(error) else ""}.'
        return refuse(VasoMIMError(f'vasomim {verb}', what, 'Use fewer workers, smaller batches, or another machine.'))
    except RecursionError:
        what = 'a file or a config is nested too deeply.'
        return refuse(VasoMIMError(f'vasomim {verb}', what, 'Look at what was named last: it is damaged.'))
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        return EXIT_INTERRUPTED


def refuse(error: VasoMIMError) -> int:
    """Print an error, and return the exit status that tells of it."""
    print(f'{type(error).__name__}: {error}', file=sys.stderr)
    return EXIT_ERROR


def entry() -> None:
    """Run the console script ``vasomim``."""
    raise SystemExit(main())


def overview() -> str:
    """Return the help of the whole command line: each verb with its summary."""
    verbs = '\n'.join(f'  {verb:<18}{summary(verb)}' for verb in VERBS)
    return (
        'usage: vasomim VERB [options]\n\n'
        'Vascular anatomy-aware masked image modelling for X-ray angiograms.\n\n'
        f'verbs:\n{verbs}\n\n'
        '`vasomim VERB --help` lists the options of a verb; `vasomim --version` prints the version.'
    )


def summary(verb: str) -> str:
    """Return the one-line ``SUMMARY`` of a verb's module without importing it.

    Raises:
        LookupError: If the module does not exist or assigns no literal ``SUMMARY``.
    """
    spec = importlib.util.find_spec(VERBS[verb])
    if spec is None or spec.origin is None:
        raise LookupError(f'{VERBS[verb]} does not exist.')
    for node in ast.parse(Path(spec.origin).read_text(encoding='utf-8')).body:
        if isinstance(node, ast.AnnAssign):
            targets: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            targets = node.targets
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == 'SUMMARY' for target in targets) and node.value:
            return str(ast.literal_eval(node.value))
    raise LookupError(f'{VERBS[verb]} assigns no literal SUMMARY.')
