"""The cache of decoded images: what is in it, when it is made again, what it leaves behind."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtbench import image_cache as module
from rtbench.datasets import ImageFile, ImageSet, read_images, read_labelled
from rtbench.errors import UsageError
from rtbench.image_cache import CachedImages, cache_images
from rtbench.preprocessing import RESNET, crop
from rtbench.records import Preprocessing

RECIPE = RESNET.model_copy(update={"input_size": 24, "resize": 28})


def quiet(done: int, total: int) -> None:
    pass


def cached(images: ImageSet, folder: Path, recipe: Preprocessing = RECIPE, threads: int = 2) -> CachedImages:
    return cache_images(images, recipe, folder, threads, quiet)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures of different sizes and formats in two class folders."""
    generator = np.random.default_rng(5)
    for index in range(6):
        folder = tmp_path / "pictures" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (30 + index, 50 - 3 * index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.{'jpg' if index < 3 else 'png'}")
    return tmp_path / "pictures"


@pytest.fixture
def images(pictures: Path) -> ImageSet:
    return read_labelled(pictures, 2)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the images that have been decoded."""
    names: list[str] = []
    real = ImageFile.decode

    def counting(self: ImageFile, content):
        names.append(self.name)
        return real(self, content)

    monkeypatch.setattr(ImageFile, "decode", counting)
    return names


@pytest.mark.parametrize("threads", [1, 4])
def test_pixels_are_each_images_crop_in_order(images: ImageSet, tmp_path: Path, threads: int) -> None:
    seen: list[tuple[int, int]] = []
    result = cache_images(images, RECIPE, tmp_path / "cache", threads, lambda done, total: seen.append((done, total)))
    pixels = result.open()
    assert (pixels.shape, pixels.dtype, result.count) == ((6, 24, 24, 3), np.uint8, 6)
    for file, array in zip(images.files, pixels, strict=True):
        with Image.open(file.path) as image:
            np.testing.assert_array_equal(array, crop(image, RECIPE), err_msg=file.name)
    assert seen == [(done, 6) for done in range(1, 7)]


def test_what_is_opened_cannot_be_written_to(images: ImageSet, tmp_path: Path) -> None:
    pixels = cached(images, tmp_path / "cache").open()
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable


def test_boxes_of_one_file_are_images_of_their_own(pictures: Path, tmp_path: Path) -> None:
    path = next(pictures.rglob("*.png"))
    boxes = [(0, 0, 20, 20), (5, 3, 30, 31)]
    boxed = ImageSet("boxes", tuple(ImageFile(path, f"part {box}", box=box) for box in boxes))
    first = cached(boxed, tmp_path / "cache")
    with Image.open(path) as image:
        expected = [crop(image.convert("RGB").crop(box), RECIPE) for box in boxes]
    np.testing.assert_array_equal(first.open(), expected)
    moved = ImageSet("boxes", (boxed.files[0], replace(boxed.files[1], box=(5, 3, 30, 30))))
    assert cached(moved, tmp_path / "cache").path != first.path


def test_nothing_is_decoded_a_second_time(images: ImageSet, tmp_path: Path, decoded: list[str]) -> None:
    first = cached(images, tmp_path / "cache")
    assert sorted(decoded) == sorted(file.name for file in images.files)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "cache").iterdir()}
    decoded.clear()
    assert cached(images, tmp_path / "cache") == first
    assert decoded == []
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in (tmp_path / "cache").iterdir()}


def test_normalisation_is_no_reason_to_decode_again(images: ImageSet, tmp_path: Path, decoded: list[str]) -> None:
    first = cached(images, tmp_path / "cache")
    decoded.clear()
    other = RECIPE.model_copy(update={"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "source": "elsewhere"})
    assert cached(images, tmp_path / "cache", other) == first
    assert decoded == []


@pytest.mark.parametrize("change", [{"input_size": 20}, {"resize": 30}, {"interpolation": "bicubic"}], ids=str)
def test_another_geometry_is_another_cache(images: ImageSet, tmp_path: Path, change: dict[str, object]) -> None:
    first = cached(images, tmp_path / "cache")
    before = np.array(first.open())
    recipe = RECIPE.model_copy(update=change)
    second = cached(images, tmp_path / "cache", recipe)
    assert second.path != first.path
    assert second.fingerprint == first.fingerprint  # of the files, not of what is made of them
    with Image.open(images.files[0].path) as image:
        np.testing.assert_array_equal(second.open()[0], crop(image, recipe))
    np.testing.assert_array_equal(first.open(), before)


def test_changed_content_is_decoded_again_even_at_the_same_size(images: ImageSet, tmp_path: Path) -> None:
    first = cached(images, tmp_path / "cache")
    path = images.files[-1].path
    with Image.open(path) as image:
        other = Image.fromarray(255 - np.asarray(image))
    other.save(path)
    content = path.read_bytes()
    second = cached(images, tmp_path / "cache")
    assert second.path != first.path
    assert second.fingerprint != first.fingerprint
    np.testing.assert_array_equal(second.open()[-1], crop(other, RECIPE))
    # the same number of bytes, written later
    path.write_bytes(content)
    later = path.stat().st_mtime_ns + 1
    os.utime(path, ns=(later, later))
    assert cached(images, tmp_path / "cache").path != second.path


def test_other_labels_are_another_cache_and_another_fingerprint(images: ImageSet, tmp_path: Path) -> None:
    first = cached(images, tmp_path / "cache")
    swapped = replace(images, files=tuple(replace(file, label=1 - file.label) for file in images.files))
    second = cached(swapped, tmp_path / "cache")
    assert second.path != first.path
    assert second.fingerprint != first.fingerprint
    np.testing.assert_array_equal(second.open(), first.open())


def test_fewer_images_or_another_order_are_another_fingerprint(images: ImageSet, tmp_path: Path) -> None:
    sets = [images, images.spread(5), replace(images, files=images.files[::-1])]
    results = [cached(each, tmp_path / "cache") for each in sets]
    assert len({result.path for result in results}) == len({result.fingerprint for result in results}) == 3
    np.testing.assert_array_equal(results[2].open(), results[0].open()[::-1])


def test_the_fingerprint_travels_with_the_images(images: ImageSet, pictures: Path, tmp_path: Path) -> None:
    first = cached(images, tmp_path / "cache")
    shutil.copytree(pictures, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    copied = read_labelled(tmp_path / "elsewhere", 2)
    assert cached(copied, tmp_path / "cache").fingerprint == first.fingerprint
    assert cached(copied, tmp_path / "another cache").fingerprint == first.fingerprint
    # One byte after the end of the image: the same pixels, other contents.
    with copied.files[0].path.open("ab") as file:
        file.write(b"\0")
    changed = cached(copied, tmp_path / "cache")
    np.testing.assert_array_equal(changed.open(), first.open())
    assert changed.fingerprint != first.fingerprint


def test_the_fingerprint_does_not_depend_on_what_was_cached_before(pictures: Path, tmp_path: Path) -> None:
    # The same files by two names each: as a folder of its own, and as the only class folder of another.
    shutil.rmtree(pictures / "1")
    as_class, as_folder = read_images(pictures), read_images(pictures / "0")
    assert [file.path for file in as_class.files] == [file.path for file in as_folder.files]
    fresh = cached(as_folder, tmp_path / "fresh").fingerprint
    cached(as_class, tmp_path / "used")
    assert cached(as_folder, tmp_path / "used").fingerprint == fresh


def test_the_fingerprint_is_a_whole_hash(images: ImageSet, tmp_path: Path) -> None:
    assert len(bytes.fromhex(cached(images, tmp_path / "cache").fingerprint)) == hashlib.sha256().digest_size


def test_another_pillow_decodes_again(images: ImageSet, tmp_path: Path, monkeypatch) -> None:
    first = cached(images, tmp_path / "cache")
    monkeypatch.setattr(module.PIL, "__version__", "0.0.1")
    assert cached(images, tmp_path / "cache").path != first.path


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_an_image_that_cannot_be_read_is_named_and_leaves_nothing(
    images: ImageSet, tmp_path: Path, damage: str
) -> None:
    bad = images.files[1].path
    assert bad.suffix == ".jpg"
    content = bad.read_bytes()
    if damage == "gone":
        bad.unlink()
    else:
        bad.write_bytes({"truncated": content[: len(content) // 2], "text": b"no image at all", "empty": b""}[damage])
    cache = tmp_path / "cache"
    with pytest.raises(UsageError) as caught:
        cached(images, cache)
    assert str(bad) in caught.value.message
    assert caught.value.remedy
    assert not cache.exists() or list(cache.iterdir()) == []
    # Once mended it works, from the same folder.
    bad.write_bytes(content)
    assert cached(images, cache).open().shape == (6, 24, 24, 3)


def test_a_truncated_png_is_named_too(images: ImageSet, tmp_path: Path) -> None:
    bad = images.files[-1].path
    assert bad.suffix == ".png"
    content = bad.read_bytes()
    for keep in (10, 40, len(content) // 2, len(content) - 100):
        bad.write_bytes(content[:keep])
        with pytest.raises(UsageError, match=bad.name):
            cached(images, tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []


def test_an_interruption_leaves_nothing_and_the_next_one_begins_again(images: ImageSet, tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cache_images(images, RECIPE, cache, 2, interrupt)
    assert list(cache.iterdir()) == []
    pixels = cached(images, cache).open()
    assert all(pixels[index].any() for index in range(6))


def test_a_cache_folder_that_cannot_be_is_told(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = tmp_path / "file" / "cache"
    with pytest.raises(UsageError) as caught:
        cached(images, cache)
    assert str(cache) in caught.value.message
    assert "--cache-dir" in caught.value.remedy
    assert (tmp_path / "file").read_text() == "in the way"
