"""The library that draws charts: made once, checked whenever it is read, and not needed in any one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtbench.errors import UsageError
from rtbench.report import vega


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """What was bundled, in place of the library itself."""
    found: list[str] = []

    def bundle() -> str:
        found.append(f"draw({len(found)});\n")
        return found[-1]

    monkeypatch.setattr(vega, "_bundle", bundle)
    return found


def test_it_is_made_once_and_again_where_it_is_damaged(made: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert vega.library() == vega.library() == "draw(0);\n"
    (kept,) = (tmp_path / "rtbench").iterdir()
    for damage in (b"", b"// \n", b"\xff", kept.read_bytes()[:-3], kept.read_bytes().replace(b"draw", b"evil")):
        kept.write_bytes(damage)
        assert vega.library() == made[-1]
    assert len(made) == 6
    assert vega.library() == made[-1]


@pytest.mark.usefixtures("made")
def test_it_is_made_where_nothing_can_be_kept(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert vega.library() == "draw(0);\n"


@pytest.mark.usefixtures("made")
def test_it_is_made_for_a_user_without_a_home(monkeypatch) -> None:
    def no_home() -> Path:
        raise UsageError("you have no home folder")

    monkeypatch.setattr(vega, "cache_folder", no_home)
    assert [vega.library(), vega.library()] == ["draw(0);\n", "draw(1);\n"]


def test_the_real_one_can_stand_in_a_page(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = vega.library()
    assert "vegaEmbed" in made
    assert "</script" not in made
    assert vega.library() == made
