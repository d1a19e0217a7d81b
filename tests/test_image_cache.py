"""The cache of decoded images: what is in it, when it is made again, what it leaves behind."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtbench.errors import UsageError
from rtbench.images import cache as module
from rtbench.images import decoders
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.cache_chunks import read_chunks
from rtbench.images.cache_entries import UNKNOWN, list_entries, prune
from rtbench.images.cropping import crop
from rtbench.images.crops import Crops
from rtbench.images.datasets import read_images, read_labelled
from rtbench.images.image_set import ImageFile, ImageSet
from rtbench.images.preprocessing import RESNET
from rtbench.records.model import Preprocessing

RECIPE = RESNET.model_copy(update={"input_size": 24, "resize": 28})


def quiet(done: int, total: int) -> None:
    pass


def cached(images: ImageSet, folder: Path, recipe: Preprocessing = RECIPE, processes: int = 2) -> CachedImages:
    return cache_images(images, recipe, folder, processes, quiet)


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


def state(cache: Path) -> dict[Path, tuple[int, int]]:
    """What every file of the cache is and when its content was last changed; the time of last use aside."""
    return {path: (path.stat().st_ino, path.stat().st_size) for path in cache.rglob("*")}


@pytest.mark.parametrize("processes", [1, 3])
def test_pixels_are_each_images_crop_in_order(images: ImageSet, tmp_path: Path, monkeypatch, processes: int) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 2)
    seen: list[tuple[int, int]] = []
    result = cache_images(images, RECIPE, tmp_path / "cache", processes, lambda done, total: seen.append((done, total)))
    pixels = result.open()
    assert (pixels.shape, pixels.dtype, result.count, result.unreadable) == ((6, 24, 24, 3), np.uint8, 6, {})
    for file, array in zip(images.files, pixels, strict=True):
        with Image.open(file.path) as image:
            np.testing.assert_array_equal(array, crop(image, RECIPE), err_msg=file.name)
    assert seen == [(0, 6), (2, 6), (4, 6), (6, 6)]


def test_what_is_opened_cannot_be_written_to(images: ImageSet, tmp_path: Path) -> None:
    pixels = cached(images, tmp_path / "cache").open()
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable


def test_crops_are_taken_in_any_order_from_the_same_file(images: ImageSet, tmp_path: Path) -> None:
    result = cached(images, tmp_path / "cache")
    crops = Crops(result.path)
    for chosen in ([0], [5, 0, 3], range(6), []):
        np.testing.assert_array_equal(crops.take(chosen), result.open()[list(chosen)])
    assert crops.take([1]).flags.writeable


def test_boxes_of_one_file_are_images_of_their_own(pictures: Path, tmp_path: Path) -> None:
    path = str(next(pictures.rglob("*.png")))
    boxes = [(0, 0, 20, 20), (5, 3, 30, 31)]
    boxed = ImageSet("boxes", tuple(ImageFile(path, f"part {box}", box=box) for box in boxes))
    first = cached(boxed, tmp_path / "cache")
    with Image.open(path) as image:
        expected = [crop(image.convert("RGB").crop(box), RECIPE) for box in boxes]
    np.testing.assert_array_equal(first.open(), expected)
    moved = ImageSet("boxes", (boxed.files[0], replace(boxed.files[1], box=(5, 3, 30, 30))))
    assert cached(moved, tmp_path / "cache").path != first.path


def test_nothing_is_decoded_a_second_time(images: ImageSet, tmp_path: Path) -> None:
    first = cached(images, tmp_path / "cache")
    before = state(tmp_path / "cache")
    other = RECIPE.model_copy(update={"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "source": "elsewhere"})
    for recipe in (RECIPE, other):  # normalisation is no reason to decode again
        assert cached(images, tmp_path / "cache", recipe) == first
    assert state(tmp_path / "cache") == before


@pytest.mark.parametrize(
    "change", [{"input_size": 20}, {"resize": 30}, {"interpolation": "bicubic"}, {"preprocess": "tf"}], ids=str
)
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
    path = Path(images.files[-1].path)
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


def test_other_labels_are_another_fingerprint_of_the_same_pixels(images: ImageSet, tmp_path: Path) -> None:
    first = cached(images, tmp_path / "cache")
    swapped = replace(images, files=tuple(replace(file, label=1 - file.label) for file in images.files))
    second = cached(swapped, tmp_path / "cache")
    assert second.path == first.path
    assert second.fingerprint != first.fingerprint


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
    with Path(copied.files[0].path).open("ab") as file:
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
def test_an_image_that_cannot_be_read_is_named_and_black(images: ImageSet, tmp_path: Path, damage: str) -> None:
    bad = Path(images.files[1].path)
    assert bad.suffix == ".jpg"
    content = bad.read_bytes()
    if damage == "gone":
        bad.unlink()
    else:
        bad.write_bytes({"truncated": content[: len(content) // 2], "text": b"no image at all", "empty": b""}[damage])
    result = cached(images, tmp_path / "cache")
    assert list(result.unreadable) == [1]
    assert str(bad) in result.unreadable[1]
    assert result.readable == [0, 2, 3, 4, 5]
    assert [bool(array.any()) for array in result.open()] == [True, False, True, True, True, True]
    assert cached(images, tmp_path / "cache").unreadable == result.unreadable
    # Once mended it is decoded.
    bad.write_bytes(content)
    again = cached(images, tmp_path / "cache")
    assert again.unreadable == {}
    assert again.open()[1].any()


def test_a_truncated_png_is_unreadable_too(images: ImageSet, tmp_path: Path) -> None:
    bad = Path(images.files[-1].path)
    assert bad.suffix == ".png"
    content = bad.read_bytes()
    for keep in (10, 40, len(content) // 2, len(content) - 100):
        bad.write_bytes(content[:keep])
        assert bad.name in cached(images, tmp_path / "cache").unreadable[5]


def test_images_of_which_none_can_be_read_are_refused(images: ImageSet, tmp_path: Path) -> None:
    for file in images.files:
        Path(file.path).write_bytes(b"no image at all")
    with pytest.raises(UsageError, match="no image can be read") as caught:
        cached(images, tmp_path / "cache")
    assert images.files[0].path in caught.value.message


def test_an_interrupted_build_goes_on_where_it_was(images: ImageSet, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 1)

    def interrupt(done: int, _total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cache_images(images, RECIPE, cache, 2, interrupt)
    assert not list(cache.rglob("pixels.npy"))
    # A chunk whose pixels are not what was written, as after a power cut, is decoded again.
    (entry,) = cache.iterdir()
    start = next(iter(read_chunks(entry / "chunks.jsonl")))
    with (entry / "pixels.partial").open("r+b") as file:
        file.seek(-(6 - start) * 24 * 24 * 3, os.SEEK_END)
        file.write(bytes(100))
    seen: list[int] = []
    result = cache_images(images, RECIPE, cache, 2, lambda done, _: seen.append(done))
    assert seen == [2, 3, 4, 5, 6]
    fresh = cached(images, tmp_path / "fresh")
    np.testing.assert_array_equal(result.open(), fresh.open())
    assert result.fingerprint == fresh.fingerprint


BUILD = """
import json, signal, sys
from pathlib import Path
from rtbench.images import decoders
from rtbench.images.cache import cache_images
from rtbench.images.datasets import read_labelled
from rtbench.images.preprocessing import RESNET
decoders.CHUNK = 2
recipe = RESNET.model_copy(update={"input_size": 24, "resize": 28})
first = []
def progress(done, total):
    first.append(done)
    print(done, flush=True)
    if done >= int(sys.argv[3]):
        signal.pause()  # until it is killed
result = cache_images(read_labelled(Path(sys.argv[1]), 2), recipe, Path(sys.argv[2]), 2, progress)
print(json.dumps({"fingerprint": result.fingerprint, "began": first[:1]}))
"""


@pytest.fixture
def build(start):
    """A build of its own process, which waits to be killed once so many images are decoded."""

    def run(pictures: Path, cache: Path, *, stop_at: int = 10**9, **options) -> subprocess.Popen[str]:
        return start(sys.executable, "-c", BUILD, pictures, cache, stop_at, stdout=subprocess.PIPE, **options)

    return run


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """200 pictures that take a moment to decode."""
    generator = np.random.default_rng(8)
    for index in range(200):
        folder = tmp_path / "many" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (180, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg")
    return tmp_path / "many"


def test_a_build_killed_at_random_moments_ends_as_if_it_had_not_been(many: Path, tmp_path: Path, build) -> None:
    cache, chooser = tmp_path / "cache", random.Random(3)
    for _ in range(4):
        target = chooser.randrange(10, 120)
        process = build(many, cache, stop_at=target)
        assert process.stdout
        for line in process.stdout:
            if line.startswith("{") or int(line) >= target:
                break
        process.kill()
        process.communicate()
    stdout, _ = build(many, cache).communicate()
    last = json.loads(stdout.splitlines()[-1])
    images = read_labelled(many, 2)
    fresh = cached(images, tmp_path / "fresh")
    assert last["fingerprint"] == fresh.fingerprint
    assert not last["began"] or last["began"][0] > 0
    np.testing.assert_array_equal(cached(images, cache).open(), fresh.open())


def test_two_builds_at_once_make_one_cache(many: Path, tmp_path: Path, build) -> None:
    both = [build(many, tmp_path / "cache") for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert len({json.loads(output.splitlines()[-1])["fingerprint"] for output in outputs}) == 1
    # One of them decoded all 200, the other only waited.
    decoding = [sum(line.isdecimal() and int(line) > 0 for line in output.splitlines()) for output in outputs]
    assert sorted(decoding) == [0, 100]
    fresh = cached(read_labelled(many, 2), tmp_path / "fresh")
    np.testing.assert_array_equal(cached(read_labelled(many, 2), tmp_path / "cache").open(), fresh.open())


def test_a_full_disk_is_told_in_a_sentence_and_leaves_nothing(many: Path, tmp_path: Path, build) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = build(many, tmp_path / "cache", preexec_fn=small_files, stderr=subprocess.PIPE)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert f"UsageError: decoded images cannot be kept in {tmp_path / 'cache'}: File too large; free some" in stderr
    assert list((tmp_path / "cache").iterdir()) == []


def test_pruning_removes_what_was_not_used_and_is_not_in_use(images: ImageSet, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    used = cached(images, cache)
    cached(images, cache, RECIPE.model_copy(update={"resize": 30}))
    recent = cached(images.spread(3), cache).path
    long_ago = time.time() - 1000
    for entry in list_entries(cache):
        if entry.images == 6:
            os.utime(entry.path / "chunks.jsonl", (long_ago, long_ago))
    entries = list_entries(cache)
    assert [(entry.images, entry.finished) for entry in entries] == [(3, True), (6, True), (6, True)]
    assert {entry.geometry for entry in entries} == {"24 of 28 bilinear", "24 of 30 bilinear"}
    assert all(entry.size_bytes > entry.images * 24 * 24 * 3 for entry in entries)
    removed, kept = prune(cache, time.time() - 500)
    assert [entry.path for entry in kept] == [used.path.parent]
    assert [entry.geometry for entry in removed] == ["24 of 30 bilinear"]
    assert sorted(cache.iterdir()) == sorted([used.path.parent, recent.parent])


def test_what_a_killed_build_left_is_listed_and_pruned(many: Path, tmp_path: Path, build) -> None:
    process = build(many, tmp_path / "cache", stop_at=20)
    assert process.stdout
    for line in process.stdout:
        if int(line) >= 20:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (entry,) = list_entries(tmp_path / "cache")
    assert not entry.finished
    assert prune(tmp_path / "cache", time.time() + 1) == ([entry], [])
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_folder_that_cannot_be_is_told(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = tmp_path / "file" / "cache"
    with pytest.raises(UsageError) as caught:
        cached(images, cache)
    assert str(cache) in caught.value.message
    assert "--cache-dir" in caught.value.remedy
    assert (tmp_path / "file").read_text() == "in the way"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a bit of a pixel": lambda entry: flip(entry / "pixels.npy", -1),
    "a bit of the shape": lambda entry: flip(entry / "pixels.npy", 60),
    "cut": lambda entry: os.truncate(entry / "pixels.npy", 5000),
    "emptied": lambda entry: os.truncate(entry / "pixels.npy", 0),
    "grown": lambda entry: os.truncate(entry / "pixels.npy", 20_000),
    "a digit of a checksum": lambda entry: flip(entry / "chunks.jsonl", 12),
    "chunks cut": lambda entry: os.truncate(entry / "chunks.jsonl", 30),
    "chunks gone": lambda entry: (entry / "chunks.jsonl").unlink(),
    "chunks of bytes": lambda entry: (entry / "chunks.jsonl").write_bytes(b"[1, 2]\n{}\nnull\n\xff\xfe\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_decoded_again_and_said(images: ImageSet, tmp_path: Path, caplog, damage: str) -> None:
    caplog.set_level(logging.WARNING)  # an export in this process may have raised it
    fresh = cached(images, tmp_path / "fresh")
    entry = cached(images, tmp_path / "cache").path.parent
    assert caplog.messages == []
    DAMAGES[damage](entry)
    again = cached(images, tmp_path / "cache")
    np.testing.assert_array_equal(again.open(), fresh.open())
    assert (again.fingerprint, again.unreadable) == (fresh.fingerprint, fresh.unreadable)
    assert caplog.messages == [f"decoded images in {entry} are damaged and are decoded again"]
    assert cached(images, tmp_path / "cache") == again
    assert len(caplog.messages) == 1


def test_only_the_damaged_chunk_is_decoded_again(images: ImageSet, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(decoders, "CHUNK", 1)
    flip(cached(images, tmp_path / "cache").path, -1)
    seen: list[int] = []
    cache_images(images, RECIPE, tmp_path / "cache", 2, lambda done, _: seen.append(done))
    assert seen == [5, 6]


def test_damaged_pixels_that_another_run_maps_are_left_to_it(images: ImageSet, tmp_path: Path) -> None:
    used = cached(images, tmp_path / "cache")
    flip(used.path, -1)
    before = used.path.read_bytes()
    with pytest.raises(UsageError, match="are damaged and in use; wait until the other run has ended"):
        cached(images, tmp_path / "cache")
    assert used.path.read_bytes() == before


ABOUTS = [None, b"", b"{", b"\xff\xfe", b"[]", b'{"source": 1}', b"[" * 100_000, b'{"source": "a", "images": "many"}']


@pytest.mark.parametrize("about", ABOUTS, ids=range(len(ABOUTS)))
def test_an_entry_whose_description_is_damaged_is_listed_and_pruned(
    images: ImageSet, tmp_path: Path, about: bytes | None
) -> None:
    cached(images, tmp_path / "cache")
    (entry,) = list_entries(tmp_path / "cache")
    if about is None:
        (entry.path / "about.json").unlink()
    else:
        (entry.path / "about.json").write_bytes(about)
    (found,) = list_entries(tmp_path / "cache")
    assert (found.path, found.source, found.geometry, found.finished) == (entry.path, UNKNOWN, UNKNOWN, True)
    assert prune(tmp_path / "cache", time.time() + 1) == ([found], [])
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_entries_are_pruned_whatever_else_lies_there(images: ImageSet, tmp_path: Path) -> None:
    cached(images, tmp_path / "cache")
    (tmp_path / "cache" / "mine").mkdir()
    (tmp_path / "cache" / "mine" / "about.json").write_text("my own")
    prune(tmp_path / "cache", time.time() + 1)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine"]


DEADLY = """
import os, resource, signal, time
from rtbench.images.image_set import ImageFile

class Deadly(ImageFile):
    def read(self):
        if "crash" in self.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "hang" in self.name:
            time.sleep(1000)
        if "memory" in self.name:
            bytearray(8 << 30)
        if "odd" in self.name:
            raise KeyError("a\\nb")
        return super().read()
"""


def test_an_image_that_ends_its_decoding_process_is_named_and_the_others_go_on(
    images: ImageSet, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(decoders, "HUNG_S", 3.0)
    from deadly import Deadly

    names = ["a", "crash", "b", "hang", "memory", "odd"]
    files = [Deadly(file.path, name, file.label) for file, name in zip(images.files, names, strict=True)]
    result = cached(replace(images, files=tuple(files)), tmp_path / "cache", processes=1)
    assert {names[index]: why.partition(" cannot be read: ")[2] for index, why in result.unreadable.items()} == {
        "crash": "the process that decoded it was killed by SIGSEGV",
        "hang": "the process that decoded it gave no answer for 3 s and was killed",
        "memory": "MemoryError",
        "odd": r"KeyError: 'a\nb'",
    }
    assert [bool(pixels.any()) for pixels in result.open()] == [name in "ab" for name in names]
    with Image.open(files[2].path) as image:
        np.testing.assert_array_equal(result.open()[2], crop(image, RECIPE))
