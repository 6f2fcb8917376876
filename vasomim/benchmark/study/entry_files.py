"""YAML files of entries, read within limits: whatever a file holds, the answer is its content or a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vasomim.errors import ConfigError
from vasomim.files import read_regular

MOST_BYTES = 1 << 20
MOST_ITEMS = 100_000  # With each alias counted as what it stands for; a long text counts more than once.
DEEPEST = 40  # Lists and keys inside each other.
BEGUN = (0, 0)
PIECE = 100  # Characters of a text that count as one item.


class Strict(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, which YAML's own reader lets pass."""

    def flatten_mapping(self, node: Any) -> None:
        """Merge what ``<<`` names, and keep in mind which keys were written out."""
        node.written = [pair for pair in node.value if pair[0].tag != 'tag:yaml.org,2002:merge']
        super().flatten_mapping(node)


def construct_mapping(loader: Any, node: Any) -> dict[Any, Any]:
    """Build a dict.

    Raises:
        YAMLError: If a key stands twice, or is no key.
    """
    loader.flatten_mapping(node)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    # Keys merged by `<<` come first and may be set again; those written out may not.
    written = [loader.construct_object(key, deep=True) for key, _ in getattr(node, 'written', node.value)]
    for key, (item, _) in zip(keys, node.value, strict=True):
        if not isinstance(key, (str, int, float, bool)) and key is not None:
            raise yaml.MarkedYAMLError(problem='a key is no text or number', problem_mark=item.start_mark)
    seen: set[Any] = set()
    for key in written:
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f'the key {key!r} stands twice', problem_mark=node.start_mark)
        seen.add(key)
    return {key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)}


Strict.add_constructor('tag:yaml.org,2002:map', construct_mapping)


def read_yaml(file: Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: If it cannot be read, is too large with its aliases spelled out, nested too deeply, or names a key
            twice.
    """
    data = read_regular(file, ConfigError, 'Write less into one file of entries.', MOST_BYTES)
    cure = 'Correct the place that is named.'
    try:
        loader = Strict(data.decode('utf-8-sig'))
        node = loader.get_single_node()
        if node is None:
            return None
        extent(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f'line {error.problem_mark.line + 1}: ' if error.problem_mark else ''
        raise ConfigError(file, f'it cannot be read as YAML: {line}{error.problem}.', cure) from error
    except RecursionError as error:
        raise ConfigError(file, 'it cannot be read as YAML: it is nested too deeply.', cure) from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:  # Of a date or a number, too.
        what = str(error).partition('\n')[0]
        raise ConfigError(file, f'it cannot be read as YAML: {what}.', cure) from error


def extent(node: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many items a part of a file has once every alias is spelled out, and how deeply they are nested.

    Args:
        node: The part.
        known: That of parts that were counted, by their ids; of one that is being counted :data:`BEGUN`.

    Raises:
        YAMLError: If there are more than :data:`MOST_ITEMS`, nested deeper than :data:`DEEPEST`, or it holds itself.
    """
    problem = None
    if id(node) not in known:
        known[id(node)] = BEGUN
        if isinstance(node, yaml.ScalarNode):
            found = (1 + len(node.value) // PIECE, 0)
        else:
            parts = (
                node.value if isinstance(node, yaml.SequenceNode) else [part for pair in node.value for part in pair]
            )
            inside = [extent(part, known) for part in parts]
            found = (1 + sum(items for items, _ in inside), 1 + max((depth for _, depth in inside), default=0))
        if found[0] > MOST_ITEMS:
            problem = f'with its aliases spelled out it has more than {MOST_ITEMS:,} items'
        if found[1] > DEEPEST:
            problem = 'it is nested too deeply'
        known[id(node)] = found
    elif known[id(node)] == BEGUN:
        problem = 'it refers to itself'
    if problem is not None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return known[id(node)]
