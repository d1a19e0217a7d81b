"""Text as it may be shown: a name out of a file moves no cursor, ends no line and changes no colour.

Every renderer begins with this, so that new cells are safe too. HTML and JSON have an escaping of their own.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rtbench.errors import visible_text
from rtbench.records import Record

Shown = TypeVar("Shown")


def visible(value: Shown) -> Shown:
    """The same record, collection or text with every text in it visible."""
    return _visible(value)  # type: ignore[no-any-return]


def _visible(value: Any) -> Any:
    match value:
        case str():
            return visible_text(value)
        case None | bool() | int() | float():
            return value
        case Path():
            return Path(visible_text(str(value)))
        case Record():
            fields = vars(value).items()
            changed = {name: shown for name, each in fields if (shown := _visible(each)) is not each}
            return value.model_copy(update=changed) if changed else value
        case dict() if value:
            return {_visible(key): _visible(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(map(_visible, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _visible(each) for name, each in vars(value).items()})
    return value
