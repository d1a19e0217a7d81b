"""Crops and inputs, bit for bit those of torchvision's transforms on PIL images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_tensorflow import GOLDEN, STEP, pictures
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import pil_loader

from rtbench.errors import UsageError
from rtbench.images.cache import cache_images
from rtbench.images.cropping import Geometry, crop, pixel_type
from rtbench.images.datasets import read_images, read_labelled
from rtbench.images.preprocessing import RESNET, for_channels, normalise, overridden, pixels_alone, sized, tf_recipe
from rtbench.options import ModelOptions
from rtbench.records.model import Preprocessing

BICUBIC = RESNET.model_copy(
    update={"interpolation": "bicubic", "mean": (127 / 255, 0.5, 0.1), "std": (128 / 255, 0.3, 1.0)}
)
SMALL = RESNET.model_copy(update={"input_size": 33, "resize": 36})
SMALL_BICUBIC = SMALL.model_copy(update={"interpolation": "bicubic"})
PADDED = RESNET.model_copy(update={"input_size": 45, "resize": 32})  # crops more than there is
SIZES = [(64, 64), (61, 97), (97, 61), (333, 40), (37, 501), (36, 36), (36, 80), (5, 7), (1, 1), (2, 150)]


def loaded(path: Path) -> Image.Image:
    """As torchvision's loader does, but for greys of 16 bits, which it makes white but for the darkest."""
    with Image.open(path) as image:
        if image.mode == "I;16":
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return pil_loader(str(path))


def theirs(image: Image.Image, recipe: Preprocessing) -> np.ndarray:
    """What torchvision makes of an image that its loader has made RGB."""
    steps = [
        transforms.Resize(recipe.resize, getattr(transforms.InterpolationMode, recipe.interpolation.upper())),
        transforms.CenterCrop(recipe.input_size),
    ]
    return np.asarray(transforms.Compose(steps)(image.convert("RGB")))


def their_input(pixels: np.ndarray, recipe: Preprocessing) -> np.ndarray:
    steps = [transforms.ToTensor(), transforms.Normalize(recipe.mean, recipe.std)]
    return transforms.Compose(steps)(Image.fromarray(pixels)).numpy()


def picture(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Noise over a slope: no two neighbours alike, and edges that show a shift by one pixel."""
    width, height = size
    generator = np.random.default_rng(width * 1000 + height)
    slope = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 55, height)[:, None, None]
    noisy = np.clip(slope * [1, 0.6, 0.3] + generator.integers(-60, 60, (height, width, 3)), 0, 255).astype(np.uint8)
    rgb = Image.fromarray(noisy)
    if mode == "RGBA":
        rgb.putalpha(Image.fromarray(generator.integers(0, 256, (height, width), dtype=np.uint8)))
        return rgb
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 2**16, (height, width), dtype=np.uint16))
    return rgb if mode == "RGB" else rgb.convert(mode)


def same(ours: np.ndarray, other: np.ndarray) -> bool:
    return ours.dtype == other.dtype and ours.shape == other.shape and ours.tobytes() == other.tobytes()


@pytest.mark.parametrize("recipe", [SMALL, SMALL_BICUBIC, PADDED, RESNET], ids=["bilinear", "bicubic", "pad", "224"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_crop_is_torchvisions(size: tuple[int, int], recipe: Preprocessing) -> None:
    image = picture(size)
    pixels = crop(image, recipe)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (recipe.input_size, recipe.input_size, 3) == Geometry.of(recipe).shape
    assert same(pixels, theirs(image, recipe))


def test_a_crop_is_torchvisions_whatever_the_parity_of_its_margins() -> None:
    for resize in range(30, 40):  # even and odd margins, and crops larger than the image
        for side in (31, 32, 35, 36):
            recipe = SMALL.model_copy(update={"resize": resize, "input_size": side})
            for size in ((50, 43), (43, 50), (47, 47)):
                assert same(crop(picture(size), recipe), theirs(picture(size), recipe)), (resize, side, size)


def test_images_of_any_size_are_torchvisions_where_their_shorter_side_becomes_a_power_of_two() -> None:
    generator = np.random.default_rng(0)
    for height in (*generator.integers(1, 700, 40).tolist(), 16, 32, 64, 333):
        width = height + int(generator.integers(0, 300))
        for resize, side in ((32, 28), (32, 27), (64, 32), (16, 16)):
            for interpolation in ("bilinear", "bicubic"):
                recipe = SMALL.model_copy(update={"resize": resize, "input_size": side, "interpolation": interpolation})
                for size in ((width, height), (height, width)):
                    image = picture(size)
                    assert same(crop(image, recipe), theirs(image, recipe)), (size, recipe)


@pytest.mark.parametrize("resize", [32, 36])
@pytest.mark.parametrize("interpolation", ["nearest", "lanczos", "box", "hamming"])
def test_every_interpolation_is_torchvisions(interpolation: str, resize: int) -> None:
    recipe = SMALL.model_copy(update={"interpolation": interpolation, "resize": resize, "input_size": 28})
    for size in ((61, 97), (120, 50), (20, 30), (30, 20), (301, 97)):
        assert same(crop(picture(size), recipe), theirs(picture(size), recipe))


@pytest.mark.parametrize("recipe", [SMALL, SMALL_BICUBIC], ids=["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_is_read_as_torchvisions_loader_reads_it(tmp_path: Path, mode: str, recipe: Preprocessing) -> None:
    suffix = {"CMYK": "jpg", "YCbCr": "jpg"}.get(mode, "png")
    path = tmp_path / f"image.{suffix}"
    picture((83, 51), mode).save(path)
    with Image.open(path) as image:
        # JPEG is YCbCr inside and comes out as RGB whatever it was; 16 bits must have survived the file.
        assert image.mode == ("RGB" if mode == "YCbCr" else mode)
        pixels = crop(image, recipe)
    assert same(pixels, theirs(loaded(path), recipe))


def test_a_palette_with_a_transparent_colour_is_read_as_torchvisions_loader_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "image.gif"
    picture((60, 47), "P").save(path, transparency=3)
    with Image.open(path) as image:
        assert same(crop(image, SMALL), theirs(pil_loader(str(path)), SMALL))


def test_the_image_handed_in_is_left_as_it_was() -> None:
    image = picture((61, 97))
    before = image.tobytes()
    crop(image, SMALL)
    assert (image.size, image.tobytes()) == ((61, 97), before)


@pytest.mark.parametrize("recipe", [RESNET, BICUBIC], ids=["ImageNet", "other"])
def test_every_grey_level_is_normalised_as_torchvision_does(recipe: Preprocessing) -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=1).reshape(16, 16, 3)
    batch = normalise(np.stack([pixels, 255 - pixels]), recipe)
    assert (batch.shape, batch.dtype, batch.flags.c_contiguous) == ((2, 3, 16, 16), np.float32, True)
    assert same(batch[0], their_input(pixels, recipe))
    assert same(batch[1], their_input(255 - pixels, recipe))
    # and by the formula, in double precision
    exact = (pixels.astype(np.float64) / 255 - recipe.mean) / recipe.std
    np.testing.assert_allclose(batch[0], exact.transpose(2, 0, 1), rtol=0, atol=2e-6)


def test_normalising_leaves_mapped_pixels_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", crop(picture((50, 50)), SMALL)[None])
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    batch = normalise(mapped, SMALL)
    assert batch.flags.writeable
    assert same(batch[0], their_input(np.array(mapped[0]), SMALL))


def test_every_photograph_of_the_imagenet_sample(imagenet_sample: Path, image_cache: Path) -> None:
    images = read_labelled(imagenet_sample, 1000)
    assert len(images.files) == 500
    recipes = (RESNET, BICUBIC)
    cached = [cache_images(images, recipe, image_cache, 2, lambda *_: None).open() for recipe in recipes]
    for index, file in enumerate(images.files):
        expected = pil_loader(file.path)
        for recipe, pixels in zip(recipes, cached, strict=True):
            assert same(pixels[index], theirs(expected, recipe)), f"{file.path} {recipe.interpolation}"
        assert same(normalise(cached[1][index : index + 1], BICUBIC)[0], their_input(cached[1][index], BICUBIC))


def test_every_kind_of_file_is_in_the_cache_as_torchvision_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    rotated = Image.Exif()
    rotated[0x0112] = 6  # to be turned a quarter to be seen upright, which torchvision does not do
    picture((83, 51)).save(folder / "rotated.jpg", exif=rotated)
    for mode, name in (("L", "grey.jpg"), ("CMYK", "cmyk.jpg"), ("P", "palette.png"), ("I;16", "16-bit.png")):
        picture((83, 51), mode).save(folder / name)
    for mode in ("LA", "RGBA", "1"):
        picture((83, 51), mode).save(folder / f"{mode}.png")
    picture((60, 47), "P").save(folder / "transparent.gif", transparency=3)
    picture((60, 47)).save(folder / "transparent.png", transparency=(1, 2, 3))
    images = read_images(folder)
    pixels = cache_images(images, SMALL, tmp_path / "cache", 1, lambda *_: None).open()
    assert len(pixels) == 10
    for file, array in zip(images.files, pixels, strict=True):
        assert same(array, theirs(loaded(Path(file.path)), SMALL)), file.name


TF = tf_recipe(RESNET)


def test_the_tensorflow_recipe_gives_what_tensorflow_gave() -> None:
    golden = np.load(GOLDEN)
    made = pictures()
    assert set(golden.files) == {"tensorflow", *made}
    for name, picture_ in made.items():
        pixels = crop(Image.fromarray(picture_), TF)
        assert (pixels.shape, pixels.dtype) == ((224, 224, 3), np.uint16)
        ours = normalise(pixels[None], TF)[0].transpose(1, 2, 0)[::STEP, ::STEP]
        # 1/512 of a grey level is 3.5e-5 here; a whole one, as rounding to uint8 would cost, 0.017
        np.testing.assert_allclose(ours, golden[name], rtol=0, atol=4e-5, err_msg=name)


def test_the_tensorflow_recipe_is_not_the_other_one() -> None:
    image = picture((500, 375))
    tf_input, torch_input = (normalise(crop(image, recipe)[None], recipe) for recipe in (TF, RESNET))
    assert np.abs(tf_input - torch_input).mean() > 0.1


def test_the_tensorflow_recipe_fits_other_input_sizes() -> None:
    recipe = tf_recipe(SMALL)
    assert (recipe.input_size, recipe.resize) == (33, 38)
    flat = Image.new("RGB", (50, 80), (255, 128, 0))
    assert (crop(flat, recipe) == np.array([255 * 256, 128 * 256, 0], dtype=np.uint16)).all()


@pytest.mark.parametrize("recipe", [RESNET, tf_recipe()])
@pytest.mark.parametrize("asked", ["torch", "tf", "squash"])
def test_the_resize_that_was_asked_for_is_taken(recipe: Preprocessing, asked) -> None:
    taken = overridden(recipe, ModelOptions(preprocess=asked))
    assert taken.preprocess == asked
    assert (taken.source != recipe.source) == (asked == "tf" or recipe.preprocess != asked)


def test_channels_are_turned_for_networks_that_take_bgr() -> None:
    pixel = np.array([[[[10, 20, 30]]]], dtype=np.uint8)
    recipe = RESNET.model_copy(update={"colour_order": "BGR", "mean": (0.0,) * 3, "std": (1 / 255,) * 3})
    np.testing.assert_allclose(normalise(pixel, recipe)[0, :, 0, 0], [30, 20, 10], rtol=1e-6)
    assert recipe.input_shape == (3, 224, 224)


def test_the_tensorflow_recipe_has_the_baselines_share_of_any_shape() -> None:
    recipe = tf_recipe(RESNET.model_copy(update={"input_size": (300, 448)}))
    assert (recipe.input_size, recipe.resize, recipe.preprocess) == ((300, 448), 343, "tf")
    assert (recipe.mean, recipe.std) == (RESNET.mean, RESNET.std)


@pytest.mark.parametrize(
    ("height", "width", "size", "resize"),
    [
        (None, None, 224, 256),
        (112, 112, 112, 128),
        (448, None, 448, 512),
        (None, 448, 448, 512),
        (112, 448, (112, 448), 128),
        (448, 112, (448, 112), 128),
    ],
)
def test_a_recipe_for_another_input_size_crops_the_same_share(height, width, size, resize: int) -> None:
    recipe = sized(RESNET, height, width)
    assert (recipe.input_size, recipe.resize) == (size, resize)
    assert recipe.model_copy(update={"input_size": 224, "resize": 256}) == RESNET


def test_a_share_is_of_the_shorter_side() -> None:
    recipe = sized(RESNET.model_copy(update={"input_size": (100, 200), "resize": 125}), 40, None)
    assert (recipe.input_size, recipe.resize) == (40, 50)


def test_a_file_that_takes_pixels_has_them_unchanged() -> None:
    recipe = pixels_alone(Path("a.onnx"), RESNET, ModelOptions())
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_allclose(normalise(pixels, recipe), pixels.transpose(0, 3, 1, 2), rtol=1e-6)
    for given in (ModelOptions(mean=(0.5,) * 3), ModelOptions(std=(0.5,) * 3)):
        with pytest.raises(UsageError, match=r"a\.onnx takes uint8 pixels .* leave out --mean and --std"):
            pixels_alone(Path("a.onnx"), RESNET, given)


def test_a_network_of_one_channel_takes_grey_by_the_mean_of_the_three() -> None:
    assert for_channels(RESNET, 3) == RESNET
    grey = for_channels(RESNET, 1)
    assert (grey.colour_order, grey.input_shape) == ("grey", (1, 224, 224))
    assert (grey.mean, grey.std) == ((0.449,) * 3, (0.226,) * 3)
    assert for_channels(RESNET.model_copy(update={"mean": (0.1, 0.1, 0.0)}), 1).mean == (0.066667,) * 3
    level = crop(Image.new("RGB", (300, 300), (128, 128, 128)), grey)
    assert level.shape == (224, 224, 1)
    np.testing.assert_allclose(normalise(level[None], grey), (128 / 255 - 0.449) / 0.226, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "changes"),
    [
        ({}, {}),
        ({"input_size": 112}, {"input_size": 112, "resize": 128}),
        ({"input_size": (112, 448)}, {"input_size": (112, 448), "resize": 128}),
        ({"input_size": 112, "resize": 112}, {"input_size": 112, "resize": 112}),
        ({"resize": 224}, {"resize": 224}),
        ({"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ({"interpolation": "bicubic"}, {"interpolation": "bicubic"}),
    ],
)
def test_what_the_user_says_of_the_recipe_is_in_it_and_in_its_source(given, changes) -> None:
    recipe = overridden(RESNET, ModelOptions(**given))
    names = [f"--{name.replace('_', '-')}" for name in ("input_size", "resize", "interpolation", "mean", "std")]
    said = ", ".join(name for name in names if name[2:].replace("-", "_") in given)
    source = f"ImageNet default; {said} given" if said else "ImageNet default"
    assert recipe == RESNET.model_copy(update=changes | {"source": source})


def test_the_share_that_is_kept_is_of_the_shorter_side() -> None:
    recipe = RESNET.model_copy(update={"input_size": (100, 200), "resize": 125})
    assert overridden(recipe, ModelOptions(input_size=40)).resize == 50


def test_a_resize_that_was_asked_for_is_told_as_the_source() -> None:
    assert overridden(RESNET, ModelOptions(preprocess="tf")).source.endswith("TensorFlow recipe, by --preprocess tf")
    assert overridden(RESNET, ModelOptions(preprocess="squash")).source == "ImageNet default; --preprocess squash given"


def test_uint16_pixels_are_in_units_of_a_256th_of_a_grey_level() -> None:
    whole = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    fine = whole.astype(np.uint16) * 256
    np.testing.assert_allclose(normalise(fine, RESNET), normalise(whole, RESNET), rtol=0, atol=1e-6)


@pytest.mark.parametrize("preprocess", ["torch", "tf", "squash"])
def test_crops_are_of_the_type_and_shape_that_the_cache_makes_room_for(preprocess: str) -> None:
    recipe = RESNET.model_copy(update={"preprocess": preprocess, "input_size": (24, 40), "resize": 28})
    for colours in ("RGB", "BGR", "grey"):
        asked = recipe.model_copy(update={"colour_order": colours})
        found = crop(picture((60, 47)), asked)
        assert (found.dtype, found.shape) == (pixel_type(asked), Geometry.of(asked).shape)
