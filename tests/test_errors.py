"""Errors are one line, whatever a library or a file name says."""

from __future__ import annotations

import pickle

import pytest

from rtbench.errors import MOST_CHARACTERS, RtbenchError, UsageError, WorkerFailed, reading

WHOLE = "Error(s) in loading state_dict:\n\tsize mismatch for fc.weight.\r\n\n  Missing keys"


@pytest.mark.parametrize("kind", [UsageError, WorkerFailed])
def test_lines_are_joined_and_control_characters_written_out(kind: type[RtbenchError]) -> None:
    error = kind(WHOLE, "see\nthe log")
    assert str(error) == "Error(s) in loading state_dict: size mismatch for fc.weight. Missing keys; see the log"
    assert str(kind("\x1b[31mred\x07 \udcff m è 写")) == r"\x1b[31mred\x07 \udcff m è 写"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_the_middle_of_a_very_long_message_is_left_out() -> None:
    said = str(UsageError("word " * 10_000 + ": File name too long", "rename it"))
    assert len(said) <= MOST_CHARACTERS + 20
    assert said.startswith("word word ")
    assert said.endswith(" word : File name too long; rename it")
    assert str(UsageError("w" * MOST_CHARACTERS)) == "w" * MOST_CHARACTERS


def test_what_the_system_refuses_is_a_sentence_that_names_the_file(tmp_path) -> None:
    with pytest.raises(UsageError, match=f"^{tmp_path}: Is a directory$"), reading():
        tmp_path.read_bytes()
    with pytest.raises(UsageError, match=r"^File too large$"), reading():
        raise OSError(27, "File too large")
    with pytest.raises(ZeroDivisionError), reading():
        print(1 / 0)
