"""What every step hands to the next, as plain data: what stands in `result.json`, in manifests and in recipes.

Records do no I/O. Units are in the names; top-1, top-5, agreement and intervals are fractions in [0, 1].
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
