"""Small TOML files that are named on the command line: one that ships with rtbench, or the user's own."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from rtbench.errors import UsageError, told
from rtbench.records import Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Read = TypeVar("Read", bound=Record)


def read_named(kind: str, name: str, record: type[Read], /, *, or_else: str = "", **defaults: Any) -> Read:
    """The record in the `kind` (recipe, baseline) of that name or path.

    `or_else`: what else the user may write in its place. `defaults` stand in for fields that the file lacks.
    """
    folder = resources.files("rtbench") / "data" / f"{kind}s"
    shipped = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    try:
        if name in shipped:
            content = (folder / f"{name}.toml").read_bytes()
        elif Path(name).is_file():
            content = Path(name).read_bytes()
        else:
            known = ", ".join([*shipped, or_else] if or_else else shipped)
            raise UsageError(f"there is no {kind} {name!r}", f"use {known}, or the path of a TOML file")
        return record.model_validate(defaults | tomllib.loads(content.decode()))
    except OSError as error:
        raise UsageError(f"{kind} {told(error)}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{kind} {name}: {field}: {first['msg']}", "fix the file") from None
    except (ValueError, RecursionError) as error:  # no TOML, or no text
        raise UsageError(f"{kind} {name} is not valid TOML: {error}", "fix the file") from None
