"""rtbench: which format and runtime to ship an image classifier in, with evidence."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtbench.api import compare, diff, export, history, load_run

__all__ = ["compare", "diff", "export", "history", "load_run"]
__version__ = "0.1.0"


class _Package(ModuleType):
    """Offers the functions of `rtbench.api` without importing it before one is used.

    Importing the modules `rtbench.compare` and `rtbench.export` must not put them in the place of the functions.
    """

    def __getattr__(self, name: str) -> Any:
        if name in __all__:
            from rtbench import api

            return getattr(api, name)
        raise AttributeError(f"module 'rtbench' has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in __all__:
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
