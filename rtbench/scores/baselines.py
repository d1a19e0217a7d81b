"""What scores are relative to: a published baseline, a file of the user's, or this run's torch/fp32."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from rtbench.errors import UsageError
from rtbench.records.run import Baseline, Row

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MEASURED = "measured"
DEFAULT = "resnet18-t4"


def load_baseline(name: str) -> Baseline | None:
    """A shipped baseline by name, or a TOML file; None for `measured`, which exists once rows do."""
    if name == MEASURED:
        return None
    folder = resources.files("rtbench") / "data" / "baselines"
    shipped = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir())
    if name in shipped:
        content = (folder / f"{name}.toml").read_bytes()
    elif Path(name).is_file():
        content = Path(name).read_bytes()
    else:
        raise UsageError(
            f"there is no baseline {name!r}", f"use {', '.join(shipped)}, {MEASURED}, or the path of a TOML file"
        )
    try:
        return Baseline.model_validate(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"baseline {name} is not valid TOML: {error}", "mend the file") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"baseline {name}: {field}: {first['msg']}", "mend the file") from None


def measured_baseline(rows: Sequence[Row], hardware: str) -> Baseline | None:
    """The first measured torch/fp32 row as baseline, or None where there is none."""
    for row in rows:
        if row.latency and row.artifact and is_torch_fp32(row):
            return Baseline(
                name=f"{MEASURED} ({row.id})",
                latency_ms=row.latency.mean_ms,
                top1=row.accuracy.top1 if row.accuracy else None,
                top5=row.accuracy.top5 if row.accuracy else None,
                size_mib=row.artifact.size_bytes / 2**20,
                hardware=hardware,
                measured=True,
            )
    return None


def is_torch_fp32(row: Row) -> bool:
    return row.runtime.partition(":")[0] == "torch" and row.precision == "fp32"
