"""Bad model files, made of good ones of every kind."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from judge import INPUTS, SEED, judge
from mutate import mutations

from rtbench import artifacts
from rtbench.images.preprocessing import RESNET
from rtbench.models.fake_model import read_script
from rtbench.options import ModelOptions, PrepareOptions
from rtbench.records.model import Artifact, EngineBuild, Model, Recipe

if TYPE_CHECKING:
    import torch  # which takes seconds to import, in a process for each family


def small() -> torch.nn.Module:
    import torch

    pooled = torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    return torch.nn.Sequential(*pooled, torch.nn.Linear(4, 7)).eval()


def saved(content: object, **options: object) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def state_dicts() -> list[bytes]:
    import torch

    state = small().half().state_dict()
    nested = {"epoch": 3, "model": {f"module.{key}": value for key, value in state.items()}, "best": [0.5, "top1"]}
    tied = state | {"again": state["3.weight"], "steps": torch.tensor(3)}
    return [saved(state), saved(nested), saved(tied), saved(state, _use_new_zipfile_serialization=False)]


def code() -> list[bytes]:
    import torch

    network, script, program = small(), io.BytesIO(), io.BytesIO()
    example = torch.zeros(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript's end
        torch.jit.save(torch.jit.trace(network, example), script)
    shapes = ({0: torch.export.Dim("batch", max=64)},)
    torch.export.save(torch.export.export(network, (example,), dynamic_shapes=shapes), program)
    return [script.getvalue(), program.getvalue(), saved(network)]


def graphs(folder: Path) -> list[bytes]:
    import torch

    from rtbench.export.quantize import write_int8
    from rtbench.export.torch import write_fp32

    network, images = small(), torch.rand(2, 1, 3, 8, 8).numpy()
    write_fp32(network, None, (3, 8, 8), folder / "fp32.onnx")
    write_int8(folder / "fp32.onnx", folder / "int8.onnx", iter(images), 2, "minmax", lambda *_: None, full_range=False)
    return [(folder / name).read_bytes() for name in ("fp32.onnx", "int8.onnx")]


def read_file(path: Path, trust_code: bool, data: bytes) -> None:
    from rtbench.models.checkpoints import read_checkpoint

    path.write_bytes(data)
    checkpoint = read_checkpoint(path, trust_code=trust_code)
    assert trust_code or checkpoint.kind != "pickle"
    assert sum(value.nbytes for value in (checkpoint.state or {}).values()) <= 20 * len(data)


def read_graph(path: Path, data: bytes) -> None:
    from rtbench.export.adopt import adopt_onnx

    path.write_bytes(data)
    adopt_onnx(path, PrepareOptions(), None)


def read_fake(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    read_script(path)


def read_engine(path: Path, beside: str, data: bytes) -> None:
    (path.parent / beside).write_bytes(data)
    from rtbench.export.adopt_engine import adopt_engine

    model, artifact = adopt_engine(path)
    inside = artifacts.artifact_folder(path.parent, model)
    assert inside.resolve().parent == path.parent.resolve()
    assert artifact.path == str(path)


def read_folder(folder: Path, data: bytes) -> None:
    from rtbench.models.load import load_model

    (folder / "model.json").write_bytes(data)
    load_model(str(folder), ModelOptions())


HUGGING_FACE = {
    "config.json": [
        {"architectures": ["ViTForImageClassification"], "id2label": {"0": "cat", "1": "dog"}, "num_channels": 3},
        {
            "architecture": "resnet18",
            "pretrained_cfg": {"input_size": [3, 8, 9], "crop_pct": 0.9, "mean": [0.5], "std": [1]},
        },
    ],
    "preprocessor_config.json": [
        {"size": {"height": 8, "width": 9}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2},
        {"size": {"shortest_edge": 40}, "crop_pct": 0.8, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]},
        {"size": 40, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True, "do_normalize": False},
    ],
}


def read_saved(folder: Path, name: str, data: bytes) -> None:
    from rtbench.models.hugging_face import read_folder

    (folder / "config.json").write_text(json.dumps(HUGGING_FACE["config.json"][0]))
    (folder / name).write_bytes(data)
    saved = read_folder(folder)
    assert all(side > 0 for side in saved.recipe.input_shape)


def assert_no_faults(family: str, reader: partial[None], seeds: Sequence[bytes], share: int = 1) -> None:
    """`share`: for readers that take longer, one of how many inputs. All read in the exporter's process."""
    tally = judge(f"models/{family}", reader, mutations(seeds, max(INPUTS // share, 10), SEED), contained=True)
    assert not tally.faults, str(tally)


def test_state_dicts(tmp_path: Path) -> None:
    assert_no_faults("state dicts", partial(read_file, tmp_path / "m.pt", False), state_dicts())


def test_code_without_consent(tmp_path: Path) -> None:
    assert_no_faults("code without consent", partial(read_file, tmp_path / "m.pt", False), code())


def test_code_with_consent(tmp_path: Path) -> None:
    script, program, _ = code()
    for name, seed in (("TorchScript", script), ("torch.export", program)):
        assert_no_faults(f"{name} with consent", partial(read_file, tmp_path / "m.pt", True), [seed], 4)


def test_graphs(tmp_path: Path) -> None:
    assert_no_faults("ONNX", partial(read_graph, tmp_path / "m.onnx"), graphs(tmp_path))


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_folders_of_hugging_face(name: str, tmp_path: Path) -> None:
    seeds = [json.dumps(each).encode() for each in HUGGING_FACE[name]]
    assert_no_faults(f"Hugging Face {name}", partial(read_saved, tmp_path, name), seeds)


def test_scripts_of_the_fake_runtime(tmp_path: Path) -> None:
    fault = {"how": "kill", "step": "run", "after": 3}
    seeds = [{"latency_ms": [1.0, 2.5], "classes": 10, "noise": 0.5, "fault": fault}, {"input_size": 8}]
    texts = [json.dumps(each).encode() for each in seeds]
    assert_no_faults("fake", partial(read_fake, tmp_path / "m.fake"), texts)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """What only looks like an engine, with what belongs beside one."""
    path = tmp_path / "trt-fp16.engine"
    path.write_bytes(b"engine")
    sha256 = artifacts.file_sha256(path)
    build = EngineBuild(
        library="tensorrt",
        library_version="10.16",
        compute_capability="7.5",
        gpu=None,
        driver=None,
        recipe=Recipe(name="t4-fp16", precision="fp16", compute_capability="7.5"),
        source="onnx-fp32.onnx",
        source_sha256=sha256,
        seconds=1.5,
        timing_cache=False,
    )
    fields = {"format": "engine", "precision": "fp16", "size_bytes": 6, "made_from": {}, "tools": {"tensorrt": "10"}}
    artifacts.save_manifest(Artifact(path=str(path), sha256=sha256, build=build, **fields))
    fields = {"source": "m.pt", "arch": None, "parameters": 9, "classes": 7, "preprocessing": RESNET}
    artifacts.save_model(tmp_path, Model(name="m", sha256=sha256, **fields))
    return path


@pytest.mark.parametrize("beside", ["trt-fp16.json", "model.json", "trt-fp16.engine"])
def test_engines(engine: Path, beside: str) -> None:
    seeds = [(engine.parent / beside).read_bytes()]
    assert_no_faults(f"engine, {beside}", partial(read_engine, engine, beside), seeds)


def test_folders(tmp_path: Path) -> None:
    import torch
    from torchvision.models import squeezenet1_1

    from rtbench.export.exporter import Exporter

    torch.save(squeezenet1_1(num_classes=2).half().state_dict(), tmp_path / "m.pt")
    exporter = Exporter(lambda *_: None)
    exporter.load(str(tmp_path / "m.pt"), PrepareOptions(arch="squeezenet1_1"), None, 1)
    exporter.export_own(tmp_path / "made")
    seeds = [(tmp_path / "made" / "model.json").read_bytes()]
    assert_no_faults("folder", partial(read_folder, tmp_path / "made"), seeds, 5)
