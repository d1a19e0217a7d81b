"""The harness itself: mutations are those of their seed, and every kind of fault is seen and survived."""

from __future__ import annotations

import io
import json
import os
import signal
import time
import zipfile
from pathlib import Path

import pytest
from judge import judge
from mutate import mutations

from rtbench.errors import UsageError

TEXT = b'{"name": "ours", "latency_ms": 12.5}\n' * 4
BINARY = bytes(range(256)) * 8


def zipped(**members: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return written.getvalue()


@pytest.mark.parametrize("seeds", [[TEXT], [BINARY], [b""], [TEXT, BINARY, zipped(a=TEXT, b=BINARY)]])
def test_mutations_are_those_of_their_seed_and_differ(seeds: list[bytes]) -> None:
    made = list(mutations(seeds, 300, 1))
    assert len(made) == 300
    assert made == list(mutations(seeds, 300, 1))
    assert made != list(mutations(seeds, 300, 2))
    assert len(set(made)) > 200 or seeds == [b""]


def test_mutations_reach_inside_a_zip_file() -> None:
    seed = zipped(a=TEXT, b=BINARY)
    inside = set()
    for data in mutations([seed], 200, 1):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                inside |= {(tuple(archive.namelist()), archive.read(archive.namelist()[0]))}
        except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, IndexError):
            continue
    assert len(inside) > 30


def misbehave(data: bytes) -> object:
    match data:
        case b"refuse":
            raise UsageError("is not one")
        case b"raise":
            raise KeyError("what")
        case b"exit":
            raise SystemExit
        case b"crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"spin":
            while True:
                pass
        case b"wait":
            time.sleep(60)
        case b"eat":
            return len(b"x" * 3 * 2**30)
        case b"reserve":
            return bytearray(100 * 2**30)
        case b"leak":
            open("/dev/null")  # noqa: SIM115, PTH123
    return data


def test_every_outcome_is_counted_and_the_rest_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUZZ_OUT", str(tmp_path))
    bad = [b"raise", b"crash", b"exit", b"eat", b"reserve", b"leak"]
    tally = judge("a/b c", misbehave, [b"fine", *bad, b"refuse", b"raise", b"fine"])
    assert (tally.inputs, tally.ok, tally.refused) == (10, 2, 1)
    found = {fault.split(" at ")[0]: count for fault, count in tally.faults.items()}
    leak = next(fault for fault in found if fault.startswith("left behind: ResourceWarning"))
    assert found == {
        "KeyError": 2,
        "SystemExit": 1,
        "crash: exit code -11": 1,
        "memory: more than 2 GiB": 2,
        leak: 1,
    }
    assert "2 x KeyError at test_judge.py:" in str(tally)
    assert len(list((tmp_path / "inputs").iterdir())) == len(found)  # the first of each
    kept = json.loads((tmp_path / "tallies.jsonl").read_text())
    assert (kept["reader"], kept["inputs"], sum(kept["faults"].values())) == ("a/b c", 10, 7)


def test_a_crash_of_a_contained_reader_is_counted_by_itself() -> None:
    tally = judge("a", misbehave, [b"fine", b"crash", b"raise", b"fine"], contained=True)
    assert (tally.inputs, tally.ok, tally.contained) == (4, 2, 1)
    assert [fault.split(" at ")[0] for fault in tally.faults] == ["KeyError"]


@pytest.mark.parametrize(
    ("what", "limit", "outcome"),
    [(b"spin", "MOST_CPU_S", "hang: more than 0.5 s"), (b"wait", "MOST_WALL_S", "hang: waits for ever")],
)
def test_a_reader_that_does_not_end_is_ended(
    what: bytes, limit: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"judge.{limit}", 0.5)
    assert judge("a", misbehave, [what]).faults == {outcome: 1}
