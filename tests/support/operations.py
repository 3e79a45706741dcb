"""Every operation that a dialect has a row for, as the code declares it."""

import pkgutil
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from gateway import dialects
from gateway.call import Operation


def operations() -> dict[str, list[Operation]]:
    """All rows by their name: lists of models have one in two places."""
    found: dict[str, list[Operation]] = {}
    for module in pkgutil.walk_packages(dialects.__path__, f"{dialects.__name__}."):
        for value in vars(import_module(module.name)).values():
            for operation in _rows(value):
                rows = found.setdefault(operation.name, [])
                if operation not in rows:
                    rows.append(operation)
    return found


def _rows(value: Any) -> Iterator[Operation]:
    """The rows that a name of a module stands for: one, a table of them, or none."""
    if isinstance(value, Operation):
        yield value
    elif isinstance(value, Mapping):
        yield from (row for row in value.values() if isinstance(row, Operation))
