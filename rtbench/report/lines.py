"""Aligned lines under a heading, which fit a narrow terminal whatever the heading is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.text import Text

GAP = "  "


@dataclass(frozen=True)
class Lines:
    """Lines with a style each, wrapped only where they are too long: as Text each, ten thousand take a second."""

    lines: Sequence[tuple[str, str]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment | Text]:
        for text, style in self.lines:
            if cell_len(text) > options.max_width or not text.isprintable():
                yield Text(text, style=style)
            else:
                yield Segment(text, console.get_style(style))
                yield Segment.line()


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Indented lines of cells, each column as wide as its widest; `right` tells which stand to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(right))]
    return [
        GAP
        + GAP.join(
            f"{cell:>{width}}" if to_right else f"{cell:<{width}}"
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
