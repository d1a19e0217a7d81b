"""The files by which others find, cite and report to the project."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import rtbench

ROOT = Path(__file__).parent.parent


def test_the_workflow_runs_the_gate() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    (command,) = [step["run"] for step in steps if "run" in step]
    assert (ROOT / command).stat().st_mode & 0o111


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_takes(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert form["name"] and form["description"]
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in form["body"])


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == rtbench.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
