"""Where terminal tables are printed: as wide as the terminal, and plain where there is none."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console, RenderableType

PIPED_WIDTH = 160
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
"""A name like `[red]` or `:x:` is what it is."""


def stdout_console() -> Console:
    """NO_COLOR and TERM=dumb are kept to, by rich; a pipe gets no colour and always the same width."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, **PLAIN)


def plain_text(renderable: RenderableType) -> str:
    console = Console(width=PIPED_WIDTH, color_system=None, **PLAIN)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
