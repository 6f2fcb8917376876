"""What files of the benchmark may hold, checked by pydantic: the types that records, entries and submissions share."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import NotRequired, TypedDict

from vasomim.errors import VasoMIMError, did_you_mean

SEEDS = 1 << 32  # NumPy's generators take seeds below it.
MOST_SEEDS = 1000  # Of a study.
MOST_ITEMS = 1000  # Of a list in an entry.
LONGEST = 80  # Characters of a value that an error repeats.
LENIENT = with_config(ConfigDict(extra='allow', strict=True))  # For a TypedDict that may hold more than it names,
STRICT = with_config(ConfigDict(extra='forbid', strict=True))  # or may not.


def is_name(text: str) -> bool:
    """Return whether a text can be a part of a file's name: letters, digits, '_', '-' and '.'."""
    return text.replace('_', '').replace('-', '').replace('.', '').isalnum()


def name(text: str) -> str:
    """Check a name.

    Raises:
        ValueError: If it cannot be a part of a file's name.
    """
    if not is_name(text):
        raise ValueError('a name is part of file names: use letters, digits, "_", "-" and "."')
    return text


def number(value: Any) -> Any:
    """Check a number; it stays what it is, an int or a float.

    Raises:
        ValueError: If it is none, or not finite.
    """
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return value
    except OverflowError:  # An int beyond what a float holds.
        pass
    raise ValueError(f'{shortened(value)} is no finite number')


def number_or_none(value: Any) -> Any:
    """Check a number that may be missing; otherwise as :func:`number`."""
    return None if value is None else number(value)


def text(value: str) -> str:
    """Check a text that a person reads.

    Raises:
        ValueError: If it is empty, or holds half of a surrogate pair, which no file can be written with.
    """
    if not value.strip():
        raise ValueError('it is empty')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError('it holds half of a surrogate pair, which is no character') from error
    return value


def listed(value: Any) -> tuple[Any, ...]:
    """Return a list as a tuple.

    Raises:
        ValueError: If it is none, or an item stands twice.
    """
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise ValueError(f'{shortened(value)} is no list of up to {MOST_ITEMS} items')
    for place, item in enumerate(value):
        if item in value[:place]:
            raise ValueError(f'{shortened(item)} stands twice')
    return tuple(value)


def seeds(value: Any) -> tuple[Any, ...]:
    """Return seeds as a tuple: a number N means 0 to N - 1.

    Raises:
        ValueError: If there are none, or more than :data:`MOST_SEEDS`.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    number_of = value if whole else len(value) if isinstance(value, list) else 1
    if not 1 <= number_of <= MOST_SEEDS:
        raise ValueError(f'{shortened(value)} is no number of seeds from 1 to {MOST_SEEDS}')
    return tuple(range(value)) if whole else listed(value)


def share(value: Any) -> Any:
    """Check a share of the labels.

    Raises:
        ValueError: If it is no number in (0, 1].
    """
    if not 0 < number(value) <= 1:
        raise ValueError(f'{value} is no part of the labels: use numbers in (0, 1]')
    return value


def as_floats(values: tuple[Any, ...]) -> tuple[float, ...]:
    """Return numbers as floats."""
    return tuple(float(value) for value in values)


def of_kind(kind: Any) -> Any:
    """Return what lets a field be checked as a TypedDict, while its annotation is a plain dict."""
    return GetPydanticSchema(lambda _, handler: handler(kind))


Text = Annotated[str, AfterValidator(text)]
Name = Annotated[str, AfterValidator(name)]
Number = Annotated[Any, PlainValidator(number)]
NumberOrNone = Annotated[Any, PlainValidator(number_or_none)]
Share = Annotated[Any, PlainValidator(share)]
Seed = Annotated[int, Field(ge=0, lt=SEEDS)]
Seeds = Annotated[tuple[Seed, ...], BeforeValidator(seeds)]
Shares = Annotated[tuple[float, ...], BeforeValidator(listed), of_kind(tuple[Share, ...]), AfterValidator(as_floats)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(listed)]
Names = Annotated[tuple[Name, ...], BeforeValidator(listed)]
Count = Annotated[int, Field(ge=0)]
CellName = Annotated[str, Field(pattern=r'^[0-9a-f]{16}$')]
Sha256 = Annotated[str, Field(pattern=r'^[0-9a-f]{64}$')]


def adapter_of(kind: Any, left_out: Collection[str] = ()) -> TypeAdapter[Any]:
    """Return what checks a dict that a dataclass is built from: its keys, types and required fields.

    Args:
        kind: The dataclass; its fields may be ``Annotated``.
        left_out: Fields that the dict does not hold.
    """
    hints = get_type_hints(kind, include_extras=True)
    keys: dict[str, Any] = {}
    for item in fields(kind):
        if item.name not in left_out:
            required = item.default is MISSING and item.default_factory is MISSING
            keys[item.name] = hints[item.name] if required else NotRequired[hints[item.name]]
    return TypeAdapter(STRICT(TypedDict(kind.__name__, keys)))  # type: ignore[operator]


Known = Mapping[str, Iterable[Any]]


def checked(
    adapter: TypeAdapter[Any],
    value: Any,
    where: str | Path,
    error: type[VasoMIMError],
    cure: str,
    known: Known = MappingProxyType({}),
) -> Any:
    """Check a value that was read.

    Args:
        adapter: What it has to be.
        value: What it is.
        where: The file, and the entry in it.
        error: The class of the error.
        cure: What to do about it.
        known: Names of the keys by section, '' for the outermost, for a suggestion where one is unknown.

    Raises:
        VasoMIMError: Of class ``error``: names the first key at fault and what is wrong with it.
    """
    try:
        return adapter.validate_python(value)
    except ValidationError as fault:
        keys, what, cure = explained(fault, cure, known)
        raise error(f'{where}: {keys}' if keys else where, what, cure) from fault


def explained(fault: ValidationError, cure: str, known: Known) -> tuple[str, str, str]:
    """Return the dotted keys of the first thing that pydantic finds wrong, what it is, and what to do about it."""
    first = fault.errors(include_url=False)[0]
    keys = [str(key) for key in first['loc'] if key != '[key]']
    above = '.'.join(keys[:-1])
    kind = first['type']
    if kind in ('extra_forbidden', 'invalid_key'):
        names = list(known.get('.'.join(key for key in keys[:-1] if not key.isdigit()), ()))
        cure = f'It takes: {", ".join(names)}.' if names else cure
        return above, f"there is no key '{shortened(keys[-1], quoted=False)}'.{did_you_mean(keys[-1], names)}", cure
    if kind == 'missing':
        return above, f'it lacks {keys[-1]}.', 'Add it.' if known else cure
    said = first['msg'].removeprefix('Value error, ')
    if kind != 'value_error':
        said = f'{shortened(first["input"])} is not what belongs here: {said[0].lower()}{said[1:]}'
    return '.'.join(keys), said.rstrip('.') + '.', cure


def shortened(value: Any, quoted: bool = True) -> str:
    """Return a value as an error repeats it: not all of what is long."""
    if isinstance(value, (list, tuple, dict, set)):  # Its text may be as long as memory allows.
        return f'a {type(value).__name__} of {len(value)}'
    try:
        said = repr(value) if quoted else str(value)
    except ValueError:  # An int of thousands of digits.
        return 'a number of very many digits'
    return said if len(said) <= LONGEST else said[:LONGEST] + '...'
