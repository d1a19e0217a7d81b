"""Words that the glossary retires are not in what rtbench says, nor in its pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
RETIRED = [
    line.strip("| ").split(" | ")[0]
    for line in GLOSSARY.read_text(encoding="utf-8").split("| instead of | say |\n|---|---|\n")[1].splitlines()
]
READ = [
    *(path for path in (ROOT / "docs").glob("*.md") if path != GLOSSARY),
    *ROOT.glob("*.md"),
    *(path for path in (ROOT / "rtbench").rglob("*") if path.suffix in {".py", ".html", ".css", ".toml"}),
    *(path for path in (ROOT / "tests" / "golden").rglob("*") if path.is_file()),
]


@pytest.mark.parametrize("words", RETIRED)
def test_a_retired_word_is_not_used(words: str) -> None:
    retired = re.compile(rf"\b{words}\b", re.IGNORECASE)
    found = [f"{path}: {words}" for path in READ if retired.search(" ".join(path.read_text("utf-8").split()))]
    assert not found


def test_the_list_of_retired_words_was_read() -> None:
    assert len(RETIRED) > 5
    assert len(READ) > 100
