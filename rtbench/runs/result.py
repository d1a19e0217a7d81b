"""`result.json`, read back: of this or any earlier schema version."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rtbench.errors import UsageError
from rtbench.records.run import SCHEMA_VERSION, Run
from rtbench.runs.reading import SAID, is_folder, read_bytes

RESULT = "result.json"
MOST_DIGITS = 19
"""Of an integer, its sign among them: those of 64 bits have as many."""


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
    file = path / RESULT if is_folder(path) else path
    content = read_bytes(file)
    if content is None:
        raise UsageError(f"{path} is not a run directory (it has no {RESULT})", "name a folder that compare wrote")
    try:
        return Run.model_validate(_upgraded(_parsed(content), file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where or 'it'}: {first['msg']}"
    except (ValueError, RecursionError) as error:  # not JSON, or not text
        problem = str(error)
    raise UsageError(f"{file} is not a result of this version of rtbench: {problem[:SAID]}", "measure again")


def _parsed(content: bytes) -> Any:
    """JSON as rtbench writes it: text that can be written again, and numbers that can be computed with."""
    data = json.loads(content, parse_float=_finite, parse_constant=_finite, parse_int=_whole)
    if b"\\u" in content:  # which may be half a character
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:MOST_DIGITS]}... is too large")
    return int(text)


def _upgraded(data: Any, file: Path) -> Any:
    """A result of any earlier schema version as one of this version; UsageError where it is of a later one."""
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        return data  # which Run then refuses, with the reason
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version}, and this version of rtbench reads up to {SCHEMA_VERSION}",
            "use the newer rtbench that wrote it",
        )
    try:
        for step in UPGRADES[version - 1 :]:
            data = step(data)
    except (TypeError, AttributeError):  # no object where there should be one
        raise ValueError(f"it does not have the form of schema version {version}") from None
    return data
