"""Inputs that are not square or not of three channels: crops, state dicts, TorchScript and ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import write_images
from PIL import Image
from torchvision import transforms

from rtbench.cli.options import parse_size, parse_triple
from rtbench.errors import UsageError
from rtbench.export.adopt import adopt_onnx
from rtbench.images.cropping import crop
from rtbench.images.image_set import ImageFile
from rtbench.images.preprocessing import RESNET, normalise
from rtbench.models.load import load_model
from rtbench.options import ModelOptions

timm = pytest.importorskip("timm", reason="pip install 'rtbench[timm]'")


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(height).integers(0, 255, (height, width, 3), dtype=np.uint8))


pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.jit


class Grey(torch.nn.Module):
    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(channels, 8, 3, stride=2)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.first(batch)).mean((2, 3)))


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (40, 200)])
@pytest.mark.parametrize("image", [(300, 400), (400, 300), (97, 97), (33, 500)])
def test_a_rectangle_is_cropped_as_timm_does(size: tuple[int, int], image: tuple[int, int]) -> None:
    recipe = RESNET.model_copy(update={"input_size": size, "resize": int(min(size) / 0.875)})
    transform = timm.data.create_transform(
        (3, *size), crop_pct=0.875, interpolation="bilinear", mean=recipe.mean, std=recipe.std
    )
    pixels = picture(*image)
    ours, theirs = normalise(crop(pixels, recipe)[None], recipe)[0], transform(pixels).numpy()
    assert ours.shape == theirs.shape == (3, *size)
    if min(size) != 40:  # 45 of 40: timm rounds 228.57 down first, and the image is a pixel narrower
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(48, 96), (96, 48)])
def test_a_rectangle_that_is_larger_than_the_image_is_padded_all_round(size: tuple[int, int]) -> None:
    recipe = RESNET.model_copy(update={"input_size": size, "resize": 32})
    height, width = (64, 32) if size[0] > size[1] else (32, 64)
    image = picture(2 * height, 2 * width)
    small = image.resize((width, height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(crop(image, recipe), np.asarray(transforms.CenterCrop(size)(small)))


@pytest.mark.parametrize("size", [24, (24, 40)])
def test_a_squashed_image_is_pillows_resize(size: int | tuple[int, int]) -> None:
    recipe = RESNET.model_copy(update={"input_size": size, "resize": 24, "preprocess": "squash"})
    height, width = recipe.height_width
    image = picture(70, 90)
    np.testing.assert_array_equal(
        crop(image, recipe), np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    )


@pytest.mark.parametrize("preprocess", ["torch", "tf", "squash"])
def test_a_grey_crop_is_that_of_the_grey_image(preprocess: str) -> None:
    recipe = RESNET.model_copy(update={"input_size": 24, "resize": 28, "preprocess": preprocess})
    grey, image = recipe.model_copy(update={"colour_order": "grey"}), picture(60, 47)
    found = crop(image, grey)
    assert found.shape == (24, 24, 1)
    np.testing.assert_array_equal(found[:, :, 0], crop(image.convert("L"), recipe)[:, :, 0])
    assert normalise(found[None], grey).shape == (1, 1, 24, 24)
    if preprocess == "torch":
        steps = [transforms.Grayscale(), transforms.Resize(28), transforms.CenterCrop(24)]
        np.testing.assert_array_equal(found[:, :, 0], np.asarray(transforms.Compose(steps)(image)))


@pytest.mark.parametrize(("suffix", "mode"), [("png", "I;16"), ("tif", "I;16"), ("tif", "I;16B")])
def test_greys_of_16_bits_keep_their_upper_8(tmp_path: Path, suffix: str, mode: str) -> None:
    levels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    image = (
        Image.fromarray(levels)
        if mode == "I;16"
        else Image.frombytes("I;16B", (64, 64), levels.astype(">u2").tobytes())
    )
    path = tmp_path / f"deep.{suffix}"
    image.save(path)
    with Image.open(path) as saved:
        assert saved.mode == mode
    file = ImageFile(str(path), path.name)
    pixels = np.asarray(file.decode(file.read()))
    np.testing.assert_array_equal(pixels, np.repeat((levels >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


def test_a_grey_state_dict_torchscript_and_onnx_are_known_by_their_first_layer(tmp_path: Path) -> None:
    network = torchvision.models.resnet18(num_classes=4)
    network.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save(network.eval().state_dict(), tmp_path / "grey.pth")
    loaded = load_model(str(tmp_path / "grey.pth"), ModelOptions())
    assert (loaded.record.arch, loaded.record.preprocessing.input_shape) == ("resnet18", (1, 224, 224))
    batch = np.random.default_rng(0).standard_normal((1, 1, 224, 224), dtype=np.float32)
    with torch.inference_mode():
        np.testing.assert_array_equal(loaded.logits(batch), network(torch.from_numpy(batch)).numpy())
    example = torch.zeros(1, 1, 32, 48)
    torch.jit.trace(Grey().eval(), example).save(str(tmp_path / "grey.ts.pt"))
    record = load_model(str(tmp_path / "grey.ts.pt"), ModelOptions(input_size=(32, 48))).record
    assert record.preprocessing.input_shape == (1, 32, 48)
    assert record.preprocessing.mean == pytest.approx([np.mean(RESNET.mean)] * 3, abs=1e-5)
    torch.onnx.export(Grey().eval(), (example,), str(tmp_path / "grey.onnx"), dynamo=False)
    assert adopt_onnx(tmp_path / "grey.onnx", ModelOptions(), None)[0].preprocessing.input_shape == (1, 32, 48)


def test_other_numbers_of_channels_are_refused(tmp_path: Path) -> None:
    torch.onnx.export(Grey(4).eval(), (torch.zeros(1, 4, 8, 8),), str(tmp_path / "four.onnx"), dynamo=False)
    with pytest.raises(UsageError, match="takes inputs of 4 channels, not of 1 or 3"):
        adopt_onnx(tmp_path / "four.onnx", ModelOptions(), None)


def test_sizes_and_greys_on_the_command_line() -> None:
    assert [parse_size("--input-size", text) for text in ("224", "224x320", "32X32")] == [224, (224, 320), 32]
    for text in ("", "x", "1x2x3", "a", "2.5"):
        with pytest.raises(UsageError, match="is not a size in pixels"):
            parse_size("--input-size", text)
    with pytest.raises(UsageError, match="--input-size is 9000"):
        ModelOptions(input_size=(8, 9000))
    assert parse_triple("--mean", "0.5") == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="not one number or three"):
        parse_triple("--mean", "0.5,0.5")


@pytest.mark.slow
def test_a_grey_rectangle_is_exported_and_compared(quickly, tmp_path: Path) -> None:
    for name in "abcde":
        write_images(tmp_path / "data" / name, 3)
    torch.jit.trace(Grey().eval(), torch.zeros(1, 1, 32, 48)).save(str(tmp_path / "grey.pt"))
    options = ("--input-size", "32x48", "--data", tmp_path / "data", "--runtimes", "torch,ort")
    rows = quickly("grey.pt", *options)["rows"]
    assert {row["id"]: row["status"] for row in rows} == dict.fromkeys(
        ["torch/fp32", "ort/fp32", "ort/fp16", "ort/int8"], "ok"
    )
    assert rows[0]["timed"].startswith("(1, 1, 32, 48) float32")
    assert "input 32x48 of one channel" in (tmp_path / "run" / "report.md").read_text()
