"""Which published datasets there are: those of ``vasomim.prepare.sets``, and those of installed packages.

A package offers its own by an entry point of the group ``vasomim.datasets`` whose value is a
:class:`vasomim.prepare.published.PublishedDataset`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from vasomim.errors import ConfigError, DatasetError, VasoMIMError, did_you_mean
from vasomim.prepare import sets
from vasomim.prepare.published import FIELDS, PreparedSet, PublishedDataset
from vasomim.synthetic.layouts import LAYOUTS, Layout

GROUP = 'vasomim.datasets'
TAKEN = ('folder', 'synthetic', *LAYOUTS)  # Words of the commands beside the datasets.


@dataclass(frozen=True)
class Catalog:
    """The datasets that can be used, and why the others cannot, by the name of their entry point."""

    datasets: tuple[PublishedDataset, ...]
    broken: dict[str, ConfigError]


@cache
def load_catalog() -> Catalog:
    """Import the datasets; warn of those that cannot be, which leaves the others usable.

    Raises:
        ConfigError: If two of them share a name.
    """
    found: list[PublishedDataset] = []
    broken: dict[str, ConfigError] = {}
    origin = {('dataset', name): 'vasomim' for name in TAKEN}
    for module in sorted(each.name for each in pkgutil.iter_modules(sets.__path__)):
        where = f'{sets.__name__}.{module}'
        add(importlib.import_module(where).DATASET, where, found, origin)
    for point in importlib.metadata.entry_points(group=GROUP):
        where = f"entry point '{point.name} = {point.value}' of {point.dist.name if point.dist else 'a package'}"
        try:
            dataset = load(point, where)
        except ConfigError as error:
            broken[point.name] = error
            warnings.warn(f'{error}', RuntimeWarning, stacklevel=2)
            continue
        if dataset not in found:
            add(dataset, where, found, origin)
    return Catalog(tuple(found), broken)


def load(point: importlib.metadata.EntryPoint, where: str) -> PublishedDataset:
    """Return the dataset of an entry point.

    Raises:
        ConfigError: If it cannot be imported, or is no dataset.
    """
    cure = f'Mend that package, or uninstall it. {FIELDS}'
    try:
        dataset = point.load()
    except VasoMIMError as error:
        raise ConfigError(where, f'{error.where}: {error.what}', cure) from error
    except Exception as error:  # Whatever its module does when it is imported.
        raise ConfigError(where, f'it cannot be imported: {type(error).__name__}: {error}.', cure) from error
    if not isinstance(dataset, PublishedDataset) or not dataset.sets:
        what = (
            'it has no sets.' if isinstance(dataset, PublishedDataset) else f'it is no PublishedDataset: {dataset!r}.'
        )
        raise ConfigError(where, what, cure)
    return dataset


def add(
    dataset: PublishedDataset, where: str, found: list[PublishedDataset], origin: dict[tuple[str, str], str]
) -> None:
    """Add a dataset to those found.

    Raises:
        ConfigError: If its name, or that of a set or a reader of it, is taken; ``origin`` tells by whom.
    """
    for kind, name in names_in(dataset):
        other = origin.setdefault((kind, name), where)
        if other != where:
            cure = 'Give one of them another name, or uninstall its package.'
            raise ConfigError(where, f"the {kind} '{name}' is in {other} already.", cure)
    found.append(dataset)


def names_in(dataset: PublishedDataset) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of what no second dataset may be called."""
    yield 'dataset', dataset.name
    for each in dataset.sets:
        yield 'set', each.name
        for reader in filter(None, (each.mask_reader, each.box_reader)):
            yield 'reader', reader


def all_datasets() -> tuple[PublishedDataset, ...]:
    """Return the published datasets that can be used."""
    return load_catalog().datasets


def find_dataset(name: str) -> PublishedDataset:
    """Return a published dataset.

    Raises:
        ConfigError: If it is there, but cannot be used.
        DatasetError: If there is none of that name.
    """
    catalog = load_catalog()
    by_name = {dataset.name: dataset for dataset in catalog.datasets}
    if name in by_name:
        return by_name[name]
    if name in catalog.broken:
        raise catalog.broken[name]
    raise DatasetError(
        name, f'no published dataset.{did_you_mean(name, by_name)}', f'Choose one of {", ".join(by_name)}.'
    )


def find_set(name: str) -> tuple[PublishedDataset, PreparedSet] | None:
    """Return a prepared set with the dataset that it comes of; None if no published dataset has it."""
    pairs = ((dataset, each) for dataset in all_datasets() for each in dataset.sets)
    return next((pair for pair in pairs if pair[1].name == name), None)


def layouts() -> dict[str, Layout]:
    """Return what can be simulated: layouts of the simulator itself, then those of published datasets."""
    return {**LAYOUTS, **{dataset.name: dataset.simulate for dataset in all_datasets() if dataset.simulate}}
