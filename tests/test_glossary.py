"""Plain words: those that the glossary retires are not in what rtbench says, nor in its pages; sentences are short."""

from __future__ import annotations

import ast
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


MOST_WORDS = 25
CODE = sorted((ROOT / "rtbench").rglob("*.py"))


def messages(tree: ast.Module) -> list[str]:
    """Every text that is not a docstring; what is filled in counts as one word."""
    parts = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts | docstrings:
            found.append(node.value)
    return found


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT / "rtbench")))
def test_no_sentence_of_a_message_is_long(path: Path) -> None:
    every = [
        sentence
        for text in messages(ast.parse(path.read_text(encoding="utf-8")))
        for sentence in re.split(r"(?<=[.!?])\s+|\n\n", text)
    ]
    assert not [sentence for sentence in every if len(sentence.split()) > MOST_WORDS]
