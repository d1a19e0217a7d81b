"""Code that comes in a file runs only where the user trusts it, or where it is shown to be harmless."""

from __future__ import annotations

from pathlib import Path

from rtbench.errors import UsageError


class NotShown(Exception):
    """Why a file is not shown to be harmless."""


def needs_trust(path: Path, what: str, reason: object = "", instead: str = "") -> UsageError:
    said = f" ({reason})" if str(reason) else ""
    return UsageError(
        f"{path} is {what}, and loading it runs code that it holds{said}",
        f"pass --trust-code if you trust it{instead}",
    )
