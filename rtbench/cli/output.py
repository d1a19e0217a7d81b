"""Where the command line's words go: results to stdout, the rest to stderr, as loud as the user asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from rtbench.errors import UsageError
from rtbench.terms import Loudness

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rtbench.cli.progress import ProgressBar

_loudness: Loudness = "normal"


def set_loudness(*, quiet: bool, verbose: bool) -> None:
    global _loudness
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them")
    _loudness = "quiet" if quiet else "verbose" if verbose else "normal"


def progress_bar() -> ProgressBar:
    from rtbench.cli.progress import ProgressBar

    return ProgressBar(_loudness)


def say(sentence: str) -> None:
    if _loudness != "quiet":
        typer.echo(sentence, err=True)


def show(renderable: RenderableType) -> None:
    from rtbench.report.console import stdout_console

    stdout_console().print(renderable)


def deliver(rendered: RenderableType, output: Path | None) -> None:
    """Print what was rendered, or write it into the file that the user named."""
    from rtbench.artifacts import write_text
    from rtbench.report.console import plain_text

    if output is None and isinstance(rendered, str):
        typer.echo(rendered, nl=False)
    elif output is None:
        show(rendered)
    else:
        try:
            write_text(output, rendered if isinstance(rendered, str) else plain_text(rendered))
        except OSError as error:
            raise UsageError(f"cannot write {output}: {error.strerror}", "choose another --output") from None
