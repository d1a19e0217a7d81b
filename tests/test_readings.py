"""A file that can be read in several ways: labelled images say which is right, else it is said or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import write_images
from PIL import Image

from rtbench.errors import UsageError
from rtbench.images.cropping import crop
from rtbench.images.preprocessing import RESNET, normalise
from rtbench.models.load import load_model
from rtbench.options import ModelOptions
from rtbench.records.model import Preprocessing

ONE_ROW = ("--runtimes", "torch", "--precisions", "fp32")
QUICK = ("--runs", "5", "--processes", "1", "--patience", "0", *ONE_ROW)


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    made = torchvision.models.squeezenet1_1(num_classes=10).eval()
    made.classifier[1].bias.data[seed] += 10  # so that its answers are its own
    return made


def photographs_as(judge: torch.nn.Module, folder: Path, recipe: Preprocessing = RESNET) -> Path:
    """Pictures in the folders of the classes that a network answers."""
    write_images(folder / "made", 30, side=64)
    for path in sorted((folder / "made").iterdir()):
        with Image.open(path) as image, torch.inference_mode():
            answer = judge(torch.from_numpy(normalise(crop(image, recipe)[None], recipe))).argmax().item()
        target = folder / "data" / str(answer)
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    return folder / "data"


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> Path:
    """A checkpoint whose averaged weights are those of another network than the labels are by."""
    folder = tmp_path_factory.mktemp("averaged")
    photographs_as(network(1), folder)
    torch.save({"model": network(1).state_dict(), "model_ema": network(2).state_dict()}, folder / "both.pth")
    return folder


@pytest.mark.slow
def test_labelled_images_choose_among_state_dicts(averaged: Path, rtbench, tmp_path: Path) -> None:
    done = rtbench("compare", averaged / "both.pth", "--data", averaged / "data", *QUICK, "--out", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert done.returncode in (0, 1), done.stderr
    (model,) = result["models"]
    assert model["checkpoint_key"] == "model"
    assert result["rows"][0]["accuracy"]["top1"] == 1.0
    said = "--checkpoint-key model was taken by evidence: right of 30 labelled images: model_ema 0, model 30"
    assert said in model["choices"]
    assert said in " ".join(done.stdout.split())


@pytest.mark.slow
def test_artifacts_of_one_reading_are_not_taken_for_those_of_another(averaged: Path, rtbench, tmp_path: Path) -> None:
    """The cache of artifacts is by the file, of which both are."""
    top1 = {}
    for key in ("model", "model_ema"):
        out = tmp_path / key
        rtbench(
            "compare", averaged / "both.pth", "--data", averaged / "data", *QUICK, "--checkpoint-key", key, "--out", out
        )
        top1[key] = json.loads((out / "result.json").read_text())["rows"][0]["accuracy"]["top1"]
    assert top1 == {"model": 1.0, "model_ema": 0.0}


def test_without_evidence_averaged_weights_are_taken_and_that_is_said(averaged: Path) -> None:
    record = load_model(str(averaged / "both.pth"), ModelOptions()).record
    assert record.checkpoint_key == "model_ema"
    assert [(each.option, each.value) for each in record.readings] == [("checkpoint_key", "model")]
    assert "--checkpoint-key chooses another of its model" in record.choices[0]


@pytest.mark.slow
def test_where_nothing_decides_it_is_refused_with_what_was_seen(rtbench, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="pip install 'rtbench[timm]'")
    torch.manual_seed(0)
    torch.save(timm.create_model("tf_efficientnet_b0", num_classes=10).state_dict(), tmp_path / "mine.pth")
    alone = rtbench("compare", "mine.pth", *QUICK)
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1), alone.stderr
    assert "3 of timm's networks equally well: timm/efficientnet_b0, timm/efficientnet_blur_b0" in alone.stderr
    write_images(tmp_path / "data" / "0", 25, side=64)
    beside = rtbench("compare", "mine.pth", *QUICK, "--data", tmp_path / "data")
    assert beside.returncode == 2
    assert "right of 25 labelled images: timm/efficientnet_b0" in beside.stderr
    assert "say which with --arch" in beside.stderr


def settled(made: torch.nn.Module, batch: torch.Tensor) -> torch.nn.Module:
    """With statistics of its own, without which a random network answers everything alike."""
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    made.train()(batch)
    return made.eval()


def googlenet(transform_input: bool) -> torch.nn.Module:
    torch.manual_seed(3)
    asked = {"aux_logits": False, "init_weights": False, "transform_input": transform_input}
    colours = (torch.rand(16, 3, 1, 1) + torch.rand(16, 3, 224, 224) / 4 - 0.6) * 4
    made = settled(torchvision.models.googlenet(num_classes=10, **asked), colours)
    with torch.no_grad():
        made.fc.bias -= made(colours).mean(0)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False])
def test_labelled_images_say_whether_the_input_is_normalised_inside(inside: bool, quickly, tmp_path: Path) -> None:
    data = photographs_as(googlenet(inside), tmp_path)
    torch.save(googlenet(inside).state_dict(), tmp_path / "mine.pth")
    result = quickly(tmp_path / "mine.pth", "--data", data, *ONE_ROW)
    (model,) = result["models"]
    assert model["arch_options"]["transform_input"] is inside
    assert result["rows"][0]["accuracy"]["top1"] == 1.0
    named = "--transform-input" if inside else "--no-transform-input"
    assert f"{named} was taken by evidence: right of 30 labelled images: --transform-input " in model["choices"][-1]


def test_whether_an_input_is_normalised_inside_can_be_said(tmp_path: Path) -> None:
    made = googlenet(False)
    torch.save(made.state_dict(), tmp_path / "mine.pth")
    torch.save(network(1).state_dict(), tmp_path / "other.pth")
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    for inside in (True, False):
        loaded = load_model(str(tmp_path / "mine.pth"), ModelOptions(transform_input=inside))
        assert loaded.record.readings == []
        made.transform_input = inside
        with torch.inference_mode():
            np.testing.assert_array_equal(loaded.logits(batch), made(torch.from_numpy(batch)).numpy())
    with pytest.raises(UsageError, match=r"squeezenet1_1 has no transform_input; leave out --no-transform-input"):
        load_model(str(tmp_path / "other.pth"), ModelOptions(transform_input=False))


@pytest.mark.slow
def test_labelled_images_choose_among_recipes_that_normalise_otherwise(quickly, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="pip install 'rtbench[timm]'")
    from rtbench.models import timm_networks

    name, tag = "timm/mobilenetv3_large_100", "ra4_e3600_r224_in1k"  # whose mean is 0.5, and the others' is not
    torch.manual_seed(0)
    made = settled(timm.create_model("mobilenetv3_large_100", num_classes=10), torch.randn(16, 3, 224, 224))
    data = photographs_as(made, tmp_path, timm_networks.preprocessing(f"{name}.{tag}", assumed=True))
    torch.save(made.state_dict(), tmp_path / "mobilenetv3_large_100-mine.pth")
    result = quickly(tmp_path / "mobilenetv3_large_100-mine.pth", "--data", data, *ONE_ROW)
    (model,) = result["models"]
    assert (model["arch"], model["preprocessing"]["mean"]) == (f"{name}.{tag}", [0.5, 0.5, 0.5]), model["choices"]
    assert result["rows"][0]["accuracy"]["top1"] == 1.0
    assert f"--arch {name}.{tag} was taken by evidence: right of 30 labelled images: {name} " in model["choices"][-1]


def test_objects_beside_a_state_dict_are_never_made(tmp_path: Path) -> None:
    class History:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __reduce__(self) -> tuple[object, ...]:
            return exec, (f"import pathlib; pathlib.Path({str(self.path)!r}).touch()",)

    torch.save({"state_dict": network(1).state_dict(), "history": History(tmp_path / "ran")}, tmp_path / "a.ckpt")
    record = load_model(str(tmp_path / "a.ckpt"), ModelOptions()).record
    assert (record.arch, (tmp_path / "ran").exists()) == ("squeezenet1_1", False)
    torch.save({"model": network(1), "epoch": 3}, tmp_path / "whole.pth")
    with pytest.raises(
        UsageError, match=r"Python objects in it \(torchvision.models.squeezenet.SqueezeNet\).*--trust-code"
    ):
        load_model(str(tmp_path / "whole.pth"), ModelOptions())
    assert load_model(str(tmp_path / "whole.pth"), ModelOptions(trust_code=True)).record.classes == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_what_pytorch_has_quantised_is_int8(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5)).eval()
    dynamic = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear})
    torch.jit.trace(dynamic, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "int8.pt"))
    torch.jit.trace(net, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "fp32.pt"))
    options = ModelOptions(input_size=8, trust_code=True)
    assert load_model(str(tmp_path / "int8.pt"), options).record.precision == "int8"
    assert load_model(str(tmp_path / "fp32.pt"), options).record.precision == "fp32"
    torch.save(dynamic, tmp_path / "whole.pt")
    assert load_model(str(tmp_path / "whole.pt"), options).record.precision == "int8"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_its_row_is_int8_and_its_exports_fail_in_a_sentence(rtbench, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5)).eval()
    dynamic = torch.ao.quantization.quantize_dynamic(net, {torch.nn.Linear})
    torch.jit.trace(dynamic, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "int8.pt"))
    options = ("--input-size", "8", "--trust-code", "--runs", "5", "--processes", "1", "--patience", "0")
    done = rtbench("compare", "int8.pt", *options, "--runtimes", "torch,ort", "--out", tmp_path / "run")
    assert done.returncode in (0, 1), done.stderr
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    assert {row["id"]: row["status"] for row in rows} == {
        "torch/int8": "ok", "ort/int8": "failed", "ort/fp32": "failed", "ort/fp16": "failed",
    }  # fmt: skip
    assert all("PyTorch has quantised this model" in row["reason"] for row in rows if row["status"] == "failed")


def test_the_reading_that_is_asked_for_gives_that_networks_outputs(averaged: Path) -> None:
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    raw = load_model(str(averaged / "both.pth"), ModelOptions(checkpoint_key="model")).logits(batch)
    with torch.inference_mode():
        np.testing.assert_array_equal(raw, network(1)(torch.from_numpy(batch)).numpy())
