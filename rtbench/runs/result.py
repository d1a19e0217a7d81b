"""`result.json`, read back: of this or any earlier schema version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rtbench.errors import UsageError
from rtbench.records.run import SCHEMA_VERSION, Run

RESULT = "result.json"


def _without_yardstick(data: dict[str, Any]) -> dict[str, Any]:
    """A result of schema 1 as one of schema 2."""
    rows = [
        row | {"conditions": row["conditions"] and _without(row["conditions"], "yardstick_ms")}
        if "conditions" in row
        else row
        for row in data.get("rows", ())
    ]
    comparisons = [_without(each, "quantile") for each in data.get("comparisons", ())]
    return data | {"schema_version": 2, "rows": rows, "comparisons": comparisons}


def _without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


UPGRADES: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_without_yardstick,)
"""For each schema version from 1 on, what makes a `result.json` of it one of the next version."""


def read_run(path: Path) -> Run:
    """The record of a run directory, or of a `result.json` itself; UsageError where it is none."""
    file = path / RESULT if path.is_dir() else path
    try:
        return Run.model_validate(_upgraded(json.loads(file.read_bytes()), file))
    except FileNotFoundError:
        raise UsageError(
            f"{path} is no run directory (it has no {RESULT})", "name a folder that compare wrote"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where or 'it'}: {first['msg']}"
    except ValueError as error:  # no JSON, or no text
        problem = str(error)
    raise UsageError(f"{file} is no result of this version of rtbench: {problem}", "measure again")


def _upgraded(data: Any, file: Path) -> Any:
    """A result of any earlier schema version as one of this version; UsageError where it is of a later one."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        return data  # which Run then refuses, with the reason
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version}, and this version of rtbench reads up to {SCHEMA_VERSION}",
            "use the newer rtbench that wrote it",
        )
    for step in UPGRADES[version - 1 :]:
        data = step(data)
    return data
