"""What every step hands to the next, as plain data: what stands in `result.json`, in manifests and in recipes.

Records do no I/O. Units are in the names; top-1, top-5, agreement and intervals are fractions in [0, 1].
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(ge=-1, le=1)]
"""A difference of fractions."""
Count = Annotated[int, Field(ge=1)]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
