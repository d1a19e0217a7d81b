"""What other installed packages add to rtbench, by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any

from rtbench.errors import one_line


@cache
def installed(group: str, kind: type[Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """What the entry points of a group name, by their names; and why each of the others cannot be used.

    Each must be a `kind` whose own name is that of its entry point.
    """
    found: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for point in entry_points(group=group):
        try:
            offered = point.load()
        except Exception as error:  # noqa: BLE001 - another package's code, which may raise anything
            broken[point.name] = one_line(f"{point.value} cannot be loaded: {type(error).__name__}: {error}")
            continue
        if isinstance(offered, kind) and offered.name == point.name:
            found[point.name] = offered
        else:
            broken[point.name] = f"{point.value} is not a {kind.__name__} of that name"
    return MappingProxyType(found), MappingProxyType(broken)
