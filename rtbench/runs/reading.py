"""Files of a run directory, read back: what cannot be read or is damaged is told in a sentence."""

from __future__ import annotations

import contextlib
import csv
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from rtbench.errors import UsageError

SAID = 200
"""How much is said of what is wrong: a library may quote all of a damaged cell."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO | None]:
    """A file to read, None where it is missing; UsageError where it is not a file or cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device never ends
            raise UsageError(f"{path} is not a file")
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # a null character
        raise UsageError(f"{path} cannot be the name of a file: {error}") from None
    with file:
        yield file


def read_bytes(path: Path) -> bytes | None:
    """What a file holds, as `opened`."""
    with opened(path) as file:
        return file.read() if file else None


def exists(path: Path) -> bool:
    """Not where the system refuses to say, since the name is too long or a folder not to be read."""
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def is_folder(path: Path) -> bool:
    return exists(path) and path.is_dir()


@contextlib.contextmanager
def parsing(path: Path) -> Iterator[None]:
    """Text and numbers that are not what they should be become a UsageError that names the file."""
    try:
        yield
    except (ValueError, OverflowError, csv.Error) as error:
        raise UsageError(f"{path} is damaged: {str(error)[:SAID]}", "measure again") from None
