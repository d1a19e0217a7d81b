"""Files that hold code, and names that are paths: nothing of them runs or is followed without consent.

Each attack writes a file. That it would is shown by loading it with consent.
"""

from __future__ import annotations

import json
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torchvision
from attacks import ATTACKS, Small, pickled, pickled_weights, scripted

import rtbench as api
from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.export.exporter import Exporter
from rtbench.images.preprocessing import RESNET
from rtbench.models.checkpoints import read_checkpoint
from rtbench.models.load import load_model
from rtbench.options import ExportOptions, ModelOptions, PrepareOptions
from rtbench.records.model import Artifact, Model, safe_name

CONSENT = r"--trust-code if you trust it, or save the state dict alone$"


@pytest.mark.parametrize("suffix", [".pt2", ".pt", ".bin"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_runs_nothing_without_consent(attack: str, suffix: str, tmp_path: Path) -> None:
    write, what = ATTACKS[attack]
    path, written = tmp_path / f"model{suffix}", tmp_path / "written"
    write(path, written)
    # By every way that leads to the reader of model files.
    for source, options, reference in (
        (path, PrepareOptions(), None),
        ("squeezenet1_1", PrepareOptions(weights=path), None),
        (tmp_path / "given.onnx", PrepareOptions(), str(path)),
    ):
        with pytest.raises(UsageError, match=f"{path} is {what}, and loading it runs code that it holds.*{CONSENT}"):
            Exporter(lambda *_: None).load(str(source), options, reference, 1)
    assert not written.exists()
    with suppress(UsageError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load_model(str(path), ModelOptions(trust_code=True))
    assert written.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "{}"),
        ("export", "{}"),
        ("compare", "squeezenet1_1", "--weights", "{}"),
        ("compare", "given.onnx", "--reference", "{}"),
    ],
)
def test_the_command_line_refuses_in_one_line(rtbench, arguments: tuple[str, ...], tmp_path: Path) -> None:
    pickled_weights(tmp_path / "model.pt", tmp_path / "written")
    (tmp_path / "given.onnx").write_bytes(b"any")
    done = rtbench(*(each.format("model.pt") for each in arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == (
        "rtbench: model.pt is a torch.export archive, and loading it runs code that it holds"
        " (some of its weights are pickled); pass --trust-code if you trust it, or save the state dict alone"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "given.onnx"}


@pytest.mark.parametrize("name", ["--trust-code", "--trust-pickle"])
def test_consent_is_given_by_its_former_name_too(rtbench, name: str, tmp_path: Path) -> None:
    pickled_weights(tmp_path / "model.pt", tmp_path / "written")
    rtbench("export", "model.pt", name, "--out", "made")
    assert (tmp_path / "written").exists()
    shown = rtbench("export", "--help").stdout
    assert "--trust-code" in shown
    assert "--trust-pickle" not in shown


def test_the_python_api_knows_the_former_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickled_weights(tmp_path / "model.pt", tmp_path / "written")
    with pytest.raises(UsageError, match=CONSENT):
        api.export("model.pt", out=tmp_path / "made")
    assert not (tmp_path / "written").exists()
    with pytest.raises(UsageError):
        api.export("model.pt", out=tmp_path / "made", trust_pickle=True)
    assert (tmp_path / "written").exists()


def export_folder(folder: Path) -> Artifact:
    """A folder as `export` writes it, of a state dict."""
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=5).state_dict(), folder / "mine.pt")
    exporter = Exporter(lambda *_: None)
    exporter.load(str(folder / "mine.pt"), ExportOptions(), None, 1)
    return exporter.export_own(folder / "made")


@pytest.mark.parametrize("attack", ["TorchScript that saves", "a pickle"])
def test_a_folder_whose_model_was_swapped_runs_nothing(attack: str, tmp_path: Path) -> None:
    artifact, written = export_folder(tmp_path), tmp_path / "written"
    path = Path(artifact.path)
    write, what = ATTACKS[attack]
    write(path, written)
    with pytest.raises(UsageError, match="is not the file that its manifest describes"):
        load_model(str(path.parent), ModelOptions(trust_code=True))
    artifacts.save_manifest(artifact.model_copy(update={"sha256": artifacts.file_sha256(path)}))
    with pytest.raises(UsageError, match=f"is {what}, and loading it runs code"):
        load_model(str(path.parent), ModelOptions())
    assert not written.exists()


def test_what_rtbench_wrote_needs_consent_again(tmp_path: Path) -> None:
    scripted(
        tmp_path / "mine.pt",
        "def forward(self, batch):\n"
        "  token = torch.ops.profiler._record_function_enter('of a file, for all that rtbench knows')\n"
        "  return batch.mean((2, 3))",
    )
    exporter = Exporter(lambda *_: None)
    exporter.load(str(tmp_path / "mine.pt"), ExportOptions(trust_code=True), None, 1)
    exporter.export_own(tmp_path / "made")
    with pytest.raises(UsageError, match=CONSENT):
        load_model(str(tmp_path / "made"), ModelOptions())
    assert load_model(str(tmp_path / "made"), ModelOptions(trust_code=True)).record.classes == 3


def test_the_source_that_a_folder_names_is_not_read(tmp_path: Path) -> None:
    scripted(tmp_path / "mine.pt", "def forward(self, batch):\n  return batch.mean((2, 3))")
    options = ExportOptions(trust_code=True)
    exporter = Exporter(lambda *_: None)
    exporter.load(str(tmp_path / "mine.pt"), options, None, 1)
    artifact = exporter.export_own(tmp_path / "made")
    record = json.loads((tmp_path / "made" / "model.json").read_text())
    (tmp_path / "secret").write_text("of the user's")
    (tmp_path / "made" / "model.json").write_text(json.dumps(record | {"source": str(tmp_path / "secret")}))
    again = Exporter(lambda *_: None)
    again.load(str(tmp_path / "made"), options, None, 1)
    copied = again.export_own(tmp_path / "elsewhere")
    assert copied.sha256 == artifact.sha256 == artifacts.file_sha256(tmp_path / "mine.pt")


def test_a_state_dict_is_read_without_looking_for_code_where_rtbench_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.save(Small().state_dict(), tmp_path / "mine.pt")
    pickled(tmp_path / "evil.pt", tmp_path / "written")
    read_checkpoint(tmp_path / "mine.pt", trust_code=True)
    with pytest.raises(UsageError):
        read_checkpoint(tmp_path / "evil.pt")
    assert str(tmp_path) not in sys.path


def begun(run: Path, folder: Path, *arguments: str) -> None:
    """A run directory as one that was killed before it measured anything."""
    run.mkdir()
    (run / "command.json").write_text(json.dumps({"arguments": arguments, "folder": str(folder)}))


def test_a_resumed_runs_own_consent_does_not_count(rtbench, tmp_path: Path) -> None:
    written, run = tmp_path / "written", tmp_path / "run"
    pickled_weights(tmp_path / "model.pt", written)
    begun(run, tmp_path, "--verbose", "compare", "model.pt", "--trust-code")
    done = rtbench("compare", "--resume", run)
    assert (done.returncode, done.stderr.splitlines()[-1].endswith("or save the state dict alone")) == (2, True)
    assert not written.exists()
    rtbench("compare", "--resume", run, "--trust-code")
    assert written.exists()


def test_a_resumed_run_names_no_program_to_run(rtbench, tmp_path: Path) -> None:
    run, program, elsewhere = tmp_path / "run", tmp_path / "bin" / "python", tmp_path / "elsewhere"
    for each in (program, elsewhere / "bin" / "python"):
        each.parent.mkdir(parents=True)
        each.write_text(f"#!/bin/sh\ntouch {tmp_path / 'written'}\n")
        each.chmod(0o755)
    (tmp_path / "one.fake").write_text("{}")
    assert rtbench("compare", "one.fake", "--runs", "5", "--patience", "0", "--out", "before").returncode == 0
    begun(run, tmp_path, "compare", "one.fake", "--runs", "5", "--against", "before", "--against-python", "bin/python")
    done = rtbench("compare", "--resume", run)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"rtbench: {run} was started with --against-python {program}, which would be run; give it again if you trust it"
    )
    # The same words from another folder mean another program.
    done = rtbench("compare", "--resume", run, "--against-python", "bin/python", cwd=elsewhere)
    assert f"--against-python is {elsewhere / 'bin' / 'python'}, and {program} when" in done.stderr
    assert not (tmp_path / "written").exists()
    rtbench("compare", "--resume", run, "--against-python", program, cwd=elsewhere)
    assert (tmp_path / "written").exists()


def test_a_resumed_runs_folder_is_not_searched_for_modules(
    rtbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_in, elsewhere = tmp_path / "begun", tmp_path / "elsewhere"
    begun_in.mkdir()
    elsewhere.mkdir()
    (begun_in / "numpy.py").write_text(f"open({str(tmp_path / 'written')!r}, 'w').close()\n")
    (begun_in / "one.fake").write_text("{}")
    begun(tmp_path / "run", begun_in, "compare", "one.fake", "--runs", "5", "--patience", "0")
    monkeypatch.setenv("PYTHONPATH", f".:{Path(api.__file__).parents[1]}")
    done = rtbench("compare", "--resume", tmp_path / "run", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../outside"},
        {"name": ".."},
        {"name": ""},
        {"name": "a\x1b[31mb"},
        {"name": "a\nb"},
        {"name": "a" * 300},
        {"sha256": "/../../x"},
        {"preprocessing": {"input_size": 2**40}},
        {"preprocessing": {"input_size": -1}},
    ],
)
def test_names_out_of_a_file_are_never_paths(changes: dict[str, object], tmp_path: Path) -> None:
    folder = Path(export_folder(tmp_path).path).parent
    record = json.loads((folder / "model.json").read_text())
    for key, value in changes.items():
        record[key] = record[key] | value if isinstance(value, dict) else value
    (folder / "model.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"model\.json is damaged or of another version"):
        load_model(str(folder), ModelOptions())


@pytest.mark.parametrize("arch", ["fasterrcnn_resnet50_fpn", "os.system", "resnet18"])
def test_an_architecture_out_of_a_file_is_a_classifier_that_fits(arch: str, tmp_path: Path) -> None:
    folder = Path(export_folder(tmp_path).path).parent
    record = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(record | {"arch": arch, "arch_options": {"num_classes": 10**12}}))
    with pytest.raises(UsageError, match=rf"there is no architecture '{arch}'|does not fit {arch}"):
        load_model(str(folder), ModelOptions())
    # Its options are read off the state dict, not off the record.
    (folder / "model.json").write_text(json.dumps(record | {"arch_options": {"num_classes": 10**12}}))
    assert load_model(str(folder), ModelOptions()).module(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_a_record_of_an_artifact_has_the_path_of_a_file_and_a_hash() -> None:
    fields = {"format": "onnx", "precision": "fp32", "size_bytes": 1, "made_from": {}, "tools": {}}
    assert Artifact(path="a/b.onnx", sha256="0f" * 32, **fields)
    for path, sha256 in (("a/..", "0f"), ("", "0f"), ("a\0b", "0f"), ("a", "../../../x"), ("a", "0F\n")):
        with pytest.raises(ValueError, match=r"path|sha256"):
            Artifact(path=path, sha256=sha256, **fields)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("resnet-18_v2.1+x", "resnet-18_v2.1+x"),
        ("modèle", "modèle"),
        ("my model (final)", "my-model-final"),
        ("..", "model"),
        ("=1+1", "1+1"),
        ("a\x1b[31m\nb", "a-31m-b"),
        ("a/../b\\c", "a-..-b-c"),
        ("\udcff", "model"),
        ("é" * 200, "é" * 50),
    ],
)
def test_a_name_made_of_a_files_is_safe(stem: str, name: str) -> None:
    assert safe_name(stem) == name
    fields = {"source": "s", "arch": None, "sha256": "0f", "parameters": None, "classes": 1, "preprocessing": RESNET}
    assert Model(name=name, **fields).name == name
