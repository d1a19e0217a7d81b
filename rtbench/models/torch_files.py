"""Files of torch.save and TorchScript, looked through before torch reads them: it checks little, and trusts sizes."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import BinaryIO

from rtbench.errors import UsageError

MOST_NAME = 1000
"""Characters of a class's name: torch searches its message for much longer ones for hours."""
OLD_PICKLES = 5
"""With which a file begins that is not an archive: a mark, versions, the content, and its storages' keys."""


def damaged(path: Path) -> UsageError:
    return UsageError(f"{path} is damaged or cut off, not a whole PyTorch file", "copy or save it again")


def zip_members(path: Path) -> list[zipfile.ZipInfo]:
    """The members of a file that begins as a zip archive; none of any other."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception as error:  # zipfile raises many kinds for bytes that are not an archive
        raise damaged(path) from error


def verify_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Compare the members with their checksums, which torch itself does not, where it has written some; and look
    through their pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            for member in members:
                if not member.CRC:
                    del member.CRC  # none was written: zipfile compares it with nothing then
                with archive.open(member) as content:
                    while content.read(1 << 20):
                        pass
                if member.filename.endswith(".pkl"):
                    look_through(archive.read(member))
    except Exception as error:  # see zip_members
        raise damaged(path) from error


def verify_old(path: Path) -> None:
    """Look through the pickles that a file of before PyTorch 1.6 begins with; what else is wrong, torch tells."""
    with path.open("rb") as file:
        try:
            for _ in range(OLD_PICKLES):
                look_through(file)
        except _TooLongError as error:
            raise damaged(path) from error
        except Exception:  # noqa: BLE001 - pickletools raises many kinds
            return


class _TooLongError(ValueError):
    """The name of a class is longer than any class is called."""


def look_through(pickled: bytes | BinaryIO) -> None:
    """ValueError where a pickle claims a text that is longer than itself, or a class of a name that none has."""
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name in ("GLOBAL", "INST") and len(str(argument)) > MOST_NAME:
            raise _TooLongError
