"""The examples of docs/ci.md, run: their own commands, in a repository whose model did or did not get slower."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import write_images

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="the examples need git")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "ci.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(params=[1.0, 1.1], ids=["unchanged", "a tenth slower"])
def repository(request, tmp_path) -> tuple[Path, float]:
    """A clone with a branch whose model is `slower` than that of origin's main."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"

    def git(*arguments: str | Path, cwd: Path) -> None:
        identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        subprocess.run(["git", *identity, *map(str, arguments)], cwd=cwd, check=True, capture_output=True)

    origin.mkdir()
    git("init", "--initial-branch=main", cwd=origin)
    write_model(origin, 1.0)
    for label in range(3):
        write_images(origin / "photos" / str(label), 2)
    git("add", "-A", cwd=origin)
    git("commit", "-m", "model", cwd=origin)
    git("clone", origin, clone, cwd=tmp_path)
    git("checkout", "-b", "change", cwd=clone)
    write_model(clone, request.param)
    return clone, request.param


def write_model(folder: Path, slower: float) -> None:
    durations = [slower * each for each in (9.9, 10.0, 10.1, 10.0)]
    (folder / "model.fake").write_text(json.dumps({"classes": 3, "latency_ms": durations}))


def run(script: str, folder: Path, image_cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a CI job's shell does, with `rtbench` on the path."""
    tools = folder.parent / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "rtbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rtbench "$@"\n')
    (tools / "rtbench").chmod(0o755)
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ
        | {"PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(image_cache), "MODEL": "model.fake"}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_github_actions(repository, image_cache):
    folder, slower = repository
    job = yaml.safe_load(EXAMPLES[0])["jobs"]["compare"]
    steps = [step for step in job["steps"] if "run" in step and step["name"] != "Install"]
    assert [step.get("shell") for step in steps] == [None, "bash"]
    summary = folder.parent / "summary.md"
    variables = {"DATA": job["env"]["DATA"], "GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": str(summary)}
    measured = run(steps[0]["run"], folder, image_cache, **variables)
    assert measured.returncode == 0, measured.stderr
    gate = run(steps[1]["run"], folder, image_cache, **variables)
    assert gate.returncode == int(slower > 1), gate.stderr
    assert ("latency is worse by at least" in gate.stderr) == (slower > 1)
    assert "### rtbench: model" in summary.read_text()
    assert "| `fake/fp32` | latency |" in summary.read_text()


def test_gitlab(repository, image_cache):
    folder, slower = repository
    job = yaml.safe_load(EXAMPLES[1])["compare"]
    script = "\n".join(job["script"])
    variables = {"DATA": job["variables"]["DATA"], "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}
    done = run(script, folder, image_cache, **variables)
    assert done.returncode == int(slower > 1), done.stderr
    assert (folder / "runs" / "report.md").exists()
    assert ("latency is worse by at least" in done.stderr) == (slower > 1)
