"""Vega-Lite, which draws a page's charts: made out of the installed package, which takes seconds, and kept."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from rtbench.artifacts import replacing
from rtbench.errors import UsageError, one_line
from rtbench.options import cache_folder

SCRIPT = "window.vegaEmbed = vegaEmbed;"


def library() -> str:
    """To stand in a page's `<script>`. OSError where it cannot be loaded."""
    kept = _kept()
    if found := kept and _read(kept):
        return found
    made = _bundle()
    if kept:
        with suppress(OSError), replacing(kept) as partial:
            partial.write_text(_digest(made) + made, encoding="utf-8")
    return made


def _kept() -> Path | None:
    """None for a user without a home folder."""
    with suppress(UsageError):
        return cache_folder() / f"vega-{version('vl-convert-python')}.js"
    return None


def _read(path: Path) -> str | None:
    """None where it is not there, or not as it was written."""
    with suppress(OSError, UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
        found = text[len(_digest("")) :]
        if text == _digest(found) + found:
            return found
    return None


def _digest(text: str) -> str:
    return f"// {hashlib.sha256(text.encode()).hexdigest()}\n"


def _bundle() -> str:
    from vl_convert import javascript_bundle

    try:
        return str(javascript_bundle(SCRIPT)).replace("</script", "<\\/script")
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, and no Exception
            raise
        raise OSError(None, f"the library of charts cannot be loaded ({one_line(str(error))})") from error
