"""The examples of docs/ci.md, run: their own commands, on main and then on a change that did or did not get slower."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from conftest import write_command, write_images

PAGE = Path(__file__).resolve().parents[1] / "docs" / "ci.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The working tree of a CI job, with a scripted model and photos."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for label in range(3):
        write_images(folder / "photos" / str(label), 2)
    return folder


def write_model(folder: Path, slower: float) -> None:
    durations = [slower * each for each in (9.9, 10.0, 10.1, 10.0)]
    (folder / "model.fake").write_text(json.dumps({"classes": 3, "latency_ms": durations}))


def run(script: str, folder: Path, image_cache: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a CI job's shell does, with `rtbench` on the path."""
    tools = folder.parent / "tools"
    write_command(tools)
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


@pytest.mark.parametrize("slower", [1.0, 1.1], ids=["unchanged", "a tenth slower"])
def test_github_actions(checkout, image_cache, slower):
    job = yaml.safe_load(EXAMPLES[0])["jobs"]["compare"]
    steps = {step["name"]: step for step in job["steps"] if "run" in step}
    compare, keep = steps["Compare with it"], steps["This is the last good run now"]
    assert compare["shell"] == "bash"
    summary = checkout.parent / "summary.md"
    variables = {"DATA": job["env"]["DATA"], "GITHUB_STEP_SUMMARY": str(summary)}
    write_model(checkout, 1.0)
    for step in (compare, keep):
        done = run(step["run"], checkout, image_cache, **variables)
        assert done.returncode == 0, done.stderr
    assert (checkout / "runs" / "good" / "result.json").exists()
    write_model(checkout, slower)
    gate = run(compare["run"], checkout, image_cache, **variables)
    assert gate.returncode == int(slower > 1), gate.stderr
    assert ("Gate: FAIL" in gate.stdout, "Gate: PASS" in gate.stdout) == (slower > 1, slower == 1)
    assert "### rtbench: model" in summary.read_text()
    assert "| `fake/fp32` | latency |" in summary.read_text()


@pytest.mark.parametrize("slower", [1.0, 1.1], ids=["unchanged", "a tenth slower"])
def test_gitlab(checkout, image_cache, slower):
    job = yaml.safe_load(EXAMPLES[1])["compare"]
    script = "\n".join(job["script"])
    variables = {"DATA": job["variables"]["DATA"], "CI_DEFAULT_BRANCH": "main"}
    write_model(checkout, 1.0)
    done = run(script, checkout, image_cache, CI_COMMIT_BRANCH="main", **variables)
    assert done.returncode == 0, done.stderr
    assert (checkout / "runs" / "good" / "result.json").exists()
    write_model(checkout, slower)
    done = run(script, checkout, image_cache, CI_COMMIT_BRANCH="change", **variables)
    assert done.returncode == int(slower > 1), done.stderr
    assert ("FAIL latency:3%: fake/fp32" in done.stdout) == (slower > 1)
    assert ("Gate: FAIL" in done.stdout, "Gate: PASS" in done.stdout) == (slower > 1, slower == 1)
