"""The task `image-folder`: any folder of images becomes arrays, once."""

import logging
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from nas_lib.tasks import TaskSettings
from nas_lib.tasks.data import DataError, Split
from nas_lib.tasks.folder import ImageFolder, Listing

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def fill(folder: Path, count: int, suffix: str = "png", size: tuple[int, int] = (12, 9)) -> Path:
    """`count` images of `size` (width, height) in each of two classes, all of the class's colour."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{number:03d}.{suffix}")
    return folder


def a_task(path: Path, **settings: Any) -> ImageFolder:
    content = {"path": path, "folder": path.parent / "data", "height": 6, "width": 6, **settings}
    return ImageFolder.model_validate(content)


def line_of(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    fill(tmp_path / "own" / "train", 10)
    fill(tmp_path / "own" / "test", 3, "jpg")
    return tmp_path / "own"


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return fill(tmp_path / "own", 20)


def test_a_folder_with_parts_gives_splits_classes_and_shape(parts: Path) -> None:
    search, final = a_task(parts).for_search(), a_task(parts).for_finalists()
    assert (len(search.train), len(search.held_out), len(final.train), len(final.held_out)) == (16, 4, 20, 6)
    assert search.class_names == final.class_names == ("blue", "red")
    assert vars(search.shape) == {"channels": 3, "height": 6, "width": 6, "classes": 2}
    red = search.train.images[search.train.labels == 1]
    assert (red[:, 0] == 255).all()
    assert (red[:, 1:] == 0).all()


def test_a_folder_without_parts_gives_up_a_share_of_every_class_for_the_test(flat: Path) -> None:
    search, final = a_task(flat, test=0.25).for_search(), a_task(flat, test=0.25).for_finalists()
    assert (len(search.train), len(search.held_out)) == (24, 6)
    assert (len(final.train), np.bincount(final.held_out.labels).tolist()) == (30, [5, 5])


def test_the_test_images_are_not_opened_for_a_search(parts: Path) -> None:
    (parts / "test" / "red" / "000.jpg").write_bytes(b"broken")
    assert len(a_task(parts).for_search().train) == 16
    assert "000.jpg: cannot be read as an image" in line_of(a_task(parts).for_finalists)


@pytest.mark.parametrize(
    ("size", "middle"), [((20, 10), slice(5, 15)), ((10, 20), slice(5, 15)), ((10, 10), slice(0, 10))]
)
def test_images_are_scaled_to_the_shorter_side_and_cut_around_the_centre(
    tmp_path: Path, size: tuple[int, int], middle: slice
) -> None:
    fill(tmp_path / "own", 4)
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[(slice(None), middle) if size[0] >= size[1] else middle] = 200
    Image.fromarray(pixels).save(tmp_path / "own" / "blue" / "000.png")
    task = a_task(tmp_path / "own", height=5, width=5, colour="grey", validation=0.3, test=0.3)
    images = np.concatenate([task.read("train").images, task.read("test").images])
    # Scaling mixes neighbours at the edges of the cut.
    assert any((image[:, 1:-1, 1:-1] == 200).all() and image.min() > 100 for image in images)


def test_images_turn_upright_and_grey_and_other_modes_are_read(tmp_path: Path) -> None:
    folder = fill(tmp_path / "own", 1)
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, :4] = 255
    image = Image.fromarray(halves)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    image.save(folder / "red" / "000.png", exif=exif)
    Image.new("LA", (8, 8), (7, 128)).save(folder / "blue" / "000.png")
    images = a_task(folder, height=8, width=8, test=0.4).read("train").images
    assert (images[0] == 7).all()
    assert (images[1, :, :4] == 255).all()
    assert (images[1, :, 4:] == 0).all()
    assert a_task(folder, colour="grey", test=0.4).read("train").images.shape == (2, 1, 6, 6)


def test_images_are_decoded_once_and_again_when_files_or_settings_change(
    flat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    original = ImageFolder._pixels

    def spy(task: ImageFolder, file: Path) -> np.ndarray:
        decoded.append(file)
        return original(task, file)

    monkeypatch.setattr(ImageFolder, "_pixels", spy)

    def newly_decoded(**settings: Any) -> int:
        decoded.clear()
        a_task(flat, **settings).for_search()
        return len(decoded)

    assert [newly_decoded(), newly_decoded(), newly_decoded(validation=0.4)] == [32, 0, 0]
    assert [newly_decoded(height=7), newly_decoded(height=7), newly_decoded()] == [32, 0, 0]
    Image.new("RGB", (30, 30), (1, 2, 3)).save(flat / "red" / "020.png")
    assert [newly_decoded(), newly_decoded()] == [33, 0]


def test_a_damaged_cache_is_made_anew(flat: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = a_task(flat).for_search()
    (cache,) = (flat.parent / "data" / "image-folder").glob("*.npz")
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 0xFF
    cache.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        after = a_task(flat).for_search()
    assert "is damaged" in caplog.text
    np.testing.assert_array_equal(after.train.images, before.train.images)


def read_in_process(path: Path, log: Path) -> None:
    original = ImageFolder._decoded

    def counted(self: ImageFolder, listing: Listing) -> Split:
        with log.open("a") as file:
            file.write("x")
        return original(self, listing)

    ImageFolder._decoded = counted  # type: ignore[method-assign]
    a_task(path).read("train")


def test_jobs_that_start_at_once_decode_once(flat: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=read_in_process, args=(flat, tmp_path / "decoded")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "decoded").read_text() == "x"


def test_a_number_per_class_limits_what_is_decoded(flat: Path) -> None:
    train = a_task(flat, images_per_class=5).read("train")
    assert np.bincount(train.labels).tolist() == [5, 5]


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_damaged_image_is_one_line_that_names_it(flat: Path, keep: int) -> None:
    file = flat / "red" / "000.png"
    file.write_bytes(file.read_bytes()[:keep])
    line = line_of(lambda: a_task(flat).for_finalists())
    assert line.startswith(f"{file}: cannot be read as an image (")
    assert line.endswith("; replace or remove it")


def test_images_of_more_than_eight_bits_are_refused(flat: Path) -> None:
    Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(flat / "red" / "000.png")
    assert "allowed are at most 8 bits per channel" in line_of(lambda: a_task(flat).for_finalists())


def test_folders_that_are_no_data_set_are_one_line(tmp_path: Path, flat: Path) -> None:
    assert (
        line_of(a_task(tmp_path / "none").for_search) == f"{tmp_path}/none: cannot be read (No such file or directory)"
    )
    (flat / "green").mkdir()
    (flat / "green" / "list.txt").write_text("")
    assert line_of(a_task(flat).for_search).startswith(f"{flat}/green: holds no images (.bmp, ")
    one = tmp_path / "one"
    (one / "red").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(one / "red" / "0.png")
    assert line_of(a_task(one).for_search) == f"{one}: has 1 folders of classes, allowed are at least 2"
    Image.new("RGB", (4, 4)).save(flat / "green" / "0.png")
    assert line_of(a_task(flat).for_finalists) == (
        f"{flat}: class 'green' has 1 images, but none among the test images (test is 0.2); "
        "every class needs at least one"
    )


def test_images_that_fit_in_no_memory_are_one_line(flat: Path) -> None:
    task = a_task(flat, height=10**7, width=10**7)
    assert line_of(task.for_search) == (
        f"{flat}: 32 images take 9600000.0 GB, more than the memory holds; lower images_per_class, height or width"
    )


def test_a_class_only_of_the_test_images_is_named(parts: Path) -> None:
    (parts / "test" / "red").rename(parts / "test" / "rot")
    assert line_of(a_task(parts).for_finalists) == (
        f"{parts}: the test images have a class 'rot' that the training images do not have"
    )


def test_a_data_folder_that_cannot_be_written_is_named(flat: Path) -> None:
    (flat.parent / "data").write_text("")
    assert line_of(a_task(flat).for_search).endswith(
        ".npz: decoded images cannot be written (Not a directory); choose another folder by `folder` or NAS_DATA"
    )


def test_a_configuration_names_the_task() -> None:
    content = {"name": "image-folder", "path": "data/own", "height": 224, "width": 224}
    assert isinstance(TypeAdapter(TaskSettings).validate_python(content), ImageFolder)
