"""Where the command line's words go: results to stdout, the rest to stderr, as loud as the user asked for."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from rtbench.errors import UsageError, visible_text
from rtbench.terms import Loudness

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rtbench.cli.progress import ProgressBar

_loudness: Loudness = "normal"


class _Stream(io.FileIO):
    """Keeps the first failure to write, which is told at the end, so that words never end what is being measured."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            return len(data)


_stdout: _Stream | None = None


def open_streams() -> None:
    """Make stdout and stderr such that nothing raises where they are closed, full or of another encoding."""
    global _stdout
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes this number, which the next file opened would have
    _stdout = _Stream(1, "w", closefd=False)
    sys.stdout = _text(_stdout, sys.stdout, "replace")
    sys.stderr = _text(_Stream(2, "w", closefd=False), sys.stderr, "backslashreplace")


def _text(raw: _Stream, like: TextIO | None, errors: str) -> TextIO:
    encoding = like.encoding if like else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)


def require_delivered() -> None:
    """UsageError where not all of stdout was taken; who stops reading it has seen enough."""
    sys.stdout.flush()
    failure = _stdout.failure if _stdout else None
    if failure and not isinstance(failure, BrokenPipeError):
        raise UsageError(f"cannot write to stdout: {failure.strerror}")


def set_loudness(*, quiet: bool, verbose: bool) -> None:
    global _loudness
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them")
    _loudness = "quiet" if quiet else "verbose" if verbose else "normal"


def is_verbose() -> bool:
    return _loudness == "verbose"


def progress_bar() -> ProgressBar:
    from rtbench.cli.progress import ProgressBar

    return ProgressBar(_loudness)


def say(sentence: str) -> None:
    if _loudness != "quiet":
        complain(sentence)


def complain(sentence: str) -> None:
    """A line on stderr, with --quiet too."""

    typer.echo(visible_text(sentence), err=True)


def show(renderable: RenderableType) -> None:
    from rtbench.report.console import stdout_console

    stdout_console().print(renderable)


def deliver(rendered: RenderableType, output: Path | None) -> None:
    """Print what was rendered, or write it into the file that the user named.

    UsageError where that cannot be written, or is a file that is not such a report.
    """
    from rtbench.report.console import plain_text

    if output is None or _is_stdout(output):
        if isinstance(rendered, str):
            typer.echo(rendered.encode(errors="backslashreplace"), nl=False)  # as it would be in a file
        else:
            show(rendered)
        return
    try:
        _write(rendered if isinstance(rendered, str) else plain_text(rendered), output)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}", "choose another --output") from None


def _is_stdout(output: Path) -> bool:
    """Whether it is another name of stdout, such as /dev/stdout."""
    try:
        return os.path.samestat(output.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # not there, or closed
        return False


def _write(text: str, output: Path) -> None:
    from rtbench.artifacts import write_text

    if output.exists() and not output.is_file():  # a device or a pipe, which is written into
        output.write_text(text, encoding="utf-8")
        return
    if output.exists():
        with output.open(encoding="utf-8", errors="replace") as file:
            there = file.read(MOST_READ)
        if there and _kind(there) not in {_kind(text)} - {None}:
            raise UsageError(f"{output} already exists and is not a report of this kind", "choose another --output")
    write_text(Path(os.path.realpath(output)), text)  # where a link points to, and the link stays


MOST_READ = 2**20
KINDS = (
    r"\A### rtbench: ",
    r"\A\| row \| figure \| before ",
    r"\Arow,model,runtime,provider,",
    r"\A\{\s*\"schema_version\": ",
    r"\A\{\s*\"folder\": ",
    r"<title>rtbench: ",
    r"<title>rtbench history: ",
    r"\A *figure +before +after +change +95 % +verdict\n",
    r"\A *row +p50 ms +top-1 % +MiB +changed\n",
    r"agree\s+%\s+is\s+how\s+often\s+top-1\s+is\s+the\s+model's\.\s*\Z",
)
"""How every kind of report begins, or is else to be told from the files of others."""


def _kind(text: str) -> int | None:
    return next((kind for kind, sign in enumerate(KINDS) if re.search(sign, text)), None)
