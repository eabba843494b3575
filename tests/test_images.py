"""Data sets: what the splits promise, what is read and downloaded, and the line a user sees when data is wrong."""

import gzip
import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sklearn.datasets import load_digits

from nas_lib.tasks import TaskSettings, download
from nas_lib.tasks.data import DataError, Split
from nas_lib.tasks.download import Published
from nas_lib.tasks.images import (
    CIFAR10,
    CIFAR100,
    MNIST,
    Digits,
    FashionMNIST,
    ImageFile,
    channel_statistics,
    class_quantiles,
)

SHARED = Path(__file__).parents[1].resolve().parent / "shared" / "data"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

needs_mnist = pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason=f"no MNIST files in {SHARED}")
needs_cifar_subset = pytest.mark.skipif(not (SHARED / "cifar10-12k").is_dir(), reason=f"no CIFAR-10 subset in {SHARED}")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def line_of(call: Callable[[], object]) -> str:
    """The message of the DataError that a call raises: one line."""
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def numbered_images(count: int) -> np.ndarray:
    """Grey images of 4 x 4 pixels, each of which shows its own number."""
    return np.repeat(np.arange(count, dtype="<u4").view(np.uint8), 4).reshape(count, 4, 4)


def numbers(split: Split) -> np.ndarray:
    return split.images.reshape(len(split), 4, 4)[:, :, 0].copy().view("<u4")[:, 0]


def image_file(path: Path, **changed: Any) -> Path:
    """A valid npz file of 100 training and 30 test images in three classes of unequal size, some arrays changed."""
    arrays = {
        "x_train": numbered_images(100),
        "y_train": np.repeat([0, 1, 2], [60, 30, 10]),
        "x_test": numbered_images(30),
        "y_test": np.repeat([0, 1, 2], 10),
    }
    np.savez(path, **{name: array for name, array in {**arrays, **changed}.items() if array is not None})
    return path


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return image_file(tmp_path / "own.npz")


class Server:
    """A loopback web server with the files given to it; counts what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.missing_bytes = 0
        self.requests: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                content = server.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                time.sleep(0.05)  # long enough for a second client to come before the first is served
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) - server.missing_bytes])

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join(timeout=5)
    server.http.server_close()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address where nothing listens."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def tiny_mnist(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> dict[str, bytes]:
    """Makes MNIST a set of 20 images a part, to be had from `addresses`; returns its files, decompressed."""
    labels = np.arange(20, dtype=np.uint8) % 2
    contents = {}
    for part, shade in (("train", 10), ("t10k", 20)):
        contents[f"{part}-images-idx3-ubyte"] = bytes(16) + bytes([shade]) * (20 * 28 * 28)
        contents[f"{part}-labels-idx1-ubyte"] = bytes(8) + labels.tobytes()
    files = {
        name: Published(
            f"mnist/{name}.gz", tuple(f"{address}/{name}.gz" for address in addresses), {name: md5(content)}
        )
        for name, content in contents.items()
    }
    monkeypatch.setattr(MNIST, "files", files)
    return contents


def put(folder: Path, contents: dict[str, bytes], part: str = "") -> None:
    """Writes gzip files into the folder of MNIST."""
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if name.startswith(part):
            (folder / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))


def tar_gz(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def tiny_cifar10(monkeypatch: pytest.MonkeyPatch, *urls: str) -> dict[str, bytes]:
    """Makes CIFAR-10 a set of six batches of ten images; returns the files of its archive."""
    batches = [f"data_batch_{batch}" for batch in range(1, 6)] + ["test_batch"]
    members = {
        f"cifar-10-batches-bin/{batch}.bin": b"".join(
            bytes([label]) + bytes([shade]) * 1024 + bytes([100]) * 1024 + bytes([200]) * 1024 for label in range(10)
        )
        for shade, batch in enumerate(batches)
    }
    published = Published(
        "cifar-10/cifar-10-binary.tar.gz",
        urls,
        {name: md5(content) for name, content in members.items()},
        md5=md5(tar_gz(members)),
    )
    monkeypatch.setattr(CIFAR10, "archive", published)
    return members


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# Splits


def test_training_and_validation_images_are_disjoint_and_complete(npz: Path) -> None:
    data = ImageFile(path=npz).for_search()

    assert sorted([*numbers(data.train), *numbers(data.held_out)]) == list(range(100))


def test_every_class_gives_the_same_share_to_validation(npz: Path) -> None:
    data = ImageFile(path=npz, validation=0.2).for_search()

    assert np.bincount(data.held_out.labels).tolist() == [12, 6, 2]
    assert np.bincount(data.train.labels).tolist() == [48, 24, 8]


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_the_share_of_any_class_is_met_to_the_nearest_image(labels: np.ndarray, share: float, seed: int) -> None:
    below = class_quantiles(labels, np.random.default_rng(seed)) < share

    for label in np.unique(labels):
        members = labels == label
        assert abs(np.count_nonzero(below & members) - share * np.count_nonzero(members)) <= 0.5 + 1e-9


def test_images_keep_their_labels(npz: Path) -> None:
    data = ImageFile(path=npz).for_finalists()
    label_of = np.repeat([0, 1, 2], [60, 30, 10])

    assert np.array_equal(label_of[numbers(data.train)], data.train.labels)


def test_the_split_is_the_same_at_every_call_and_another_with_another_split_seed(npz: Path) -> None:
    def held_out(split_seed: int) -> set[int]:
        return set(numbers(ImageFile(path=npz, split_seed=split_seed).for_search().held_out))

    assert held_out(0) == held_out(0)
    assert held_out(0) != held_out(1)


def test_finalists_train_on_training_and_validation_images_and_are_measured_on_the_test_images(npz: Path) -> None:
    task = ImageFile(path=npz, train_images=20, validation_images=10)
    search, finalists = task.for_search(), task.for_finalists()

    assert set(numbers(finalists.train)) == set(numbers(search.train)) | set(numbers(search.held_out))
    assert len(finalists.train) == 30
    assert numbers(finalists.held_out).tolist() == list(range(30))


def test_fewer_training_images_are_a_part_of_more_and_leave_validation_as_it_is(npz: Path) -> None:
    few = ImageFile(path=npz, train_images=10).for_search()
    more = ImageFile(path=npz, train_images=40).for_search()

    assert set(numbers(few.train)) < set(numbers(more.train))
    assert np.bincount(more.train.labels).tolist() == [24, 12, 4]
    assert np.array_equal(numbers(few.held_out), numbers(more.held_out))


def test_digits_are_split_into_all_images_of_scikit_learn() -> None:
    images, labels = load_digits(return_X_y=True)
    train, test = Digits().read("train"), Digits().read("test")
    joined = np.concatenate([train.images, test.images]).reshape(-1, 64)

    assert sorted(map(bytes, joined)) == sorted(map(bytes, np.rint(images * 255 / 16).astype(np.uint8)))
    assert joined.max() == 255
    assert np.abs(np.bincount(test.labels) - 0.2 * np.bincount(labels)).max() <= 0.5


def test_digits_describe_themselves() -> None:
    data = Digits().for_search()

    assert (data.shape.channels, data.shape.height, data.shape.width, data.shape.classes) == (1, 8, 8, 10)
    assert (data.train.images.dtype.name, data.train.labels.dtype.name) == ("uint8", "int64")
    assert data.class_names == tuple("0123456789")


def test_channel_statistics_are_those_of_the_scaled_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 7), dtype=np.uint8)
    mean, std = channel_statistics(images)

    assert mean == pytest.approx((images / 255).mean(axis=(0, 2, 3)))
    assert std == pytest.approx((images / 255).std(axis=(0, 2, 3)))


def test_a_constant_channel_can_be_divided_by_its_deviation() -> None:
    mean, std = channel_statistics(np.full((4, 1, 2, 2), 51, np.uint8))

    assert mean == pytest.approx([0.2])
    assert std == (1.0,)


# Real files


@needs_mnist
def test_recompressed_mnist_is_read_and_has_its_known_statistics() -> None:
    data = MNIST(folder=SHARED).for_finalists()

    assert data.train.images.shape == (60000, 1, 28, 28)
    assert data.held_out.images.shape == (10000, 1, 28, 28)
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.1307, 0.3081)
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@needs_mnist
def test_a_mnist_search_never_opens_the_test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    for name in (IMAGES, LABELS):
        (tmp_path / "mnist" / f"{name}.gz").symlink_to(SHARED / "mnist" / f"{name}.gz")
    monkeypatch.setenv("NAS_DATA", str(tmp_path))

    data = MNIST(train_images=100, validation_images=50).for_search()

    assert (len(data.train), len(data.held_out)) == (100, 50)


@needs_cifar_subset
def test_the_cifar_subset_is_read_as_an_own_file() -> None:
    path = SHARED / "cifar10-12k" / "cifar10-12k.npz"
    sha256 = "f9ca5f39945c90c177586c2910afb0a22405d4c6f26e11ac83153fd5fa5c1fff"

    data = ImageFile(path=path, sha256=sha256).for_finalists()

    assert data.train.images.shape == (10000, 3, 32, 32)
    assert np.bincount(data.held_out.labels).tolist() == [200] * 10
    assert [round(value, 4) for value in data.mean] == [0.4936, 0.4832, 0.4470]
    assert [round(value, 4) for value in data.std] == [0.2478, 0.2448, 0.2626]


# Files in place


def test_plain_idx_files_are_read_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    contents = tiny_mnist(monkeypatch, closed)
    (tmp_path / "mnist").mkdir()
    for name, content in contents.items():
        (tmp_path / "mnist" / name).write_bytes(content)

    data = MNIST(folder=tmp_path).for_finalists()

    assert (data.train.images == 10).all()
    assert (data.held_out.images == 20).all()


def test_a_search_works_without_the_test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    put(tmp_path, tiny_mnist(monkeypatch, closed), part="train")

    assert len(MNIST(folder=tmp_path).for_search().train) == 16
    assert "t10k-images-idx3-ubyte.gz: is missing" in line_of(MNIST(folder=tmp_path).for_finalists)


def test_the_environment_variable_names_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    put(tmp_path, tiny_mnist(monkeypatch, closed))
    monkeypatch.setenv("NAS_DATA", str(tmp_path))

    assert len(MNIST().for_search().train) == 16


def test_a_file_with_wrong_content_is_named_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    contents = tiny_mnist(monkeypatch, server.address)
    put(tmp_path, contents)
    path = tmp_path / "mnist" / f"{LABELS}.gz"
    path.write_bytes(gzip.compress(b"something else"))
    before = path.read_bytes()

    assert line_of(MNIST(folder=tmp_path).for_search) == (
        f"{path}: md5 of the content {LABELS} is {md5(b'something else')}, expected {md5(contents[LABELS])}; "
        f"remove it to have it downloaded again, or put the file from {server.address}/{LABELS}.gz at {path}"
    )
    assert path.read_bytes() == before
    assert server.requests == []


def test_a_truncated_gzip_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    contents = tiny_mnist(monkeypatch, closed)
    put(tmp_path, contents)
    path = tmp_path / "mnist" / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(contents[IMAGES])[:40])

    assert line_of(MNIST(folder=tmp_path).for_search).startswith(
        f"{path}: cannot be read (Compressed file ended before the end-of-stream marker was reached), "
        f"expected is md5 of the content {md5(contents[IMAGES])}; remove it"
    )


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str) -> None:
    contents = tiny_mnist(monkeypatch, closed)
    path = tmp_path / "mnist" / f"{IMAGES}.gz"
    path.mkdir(parents=True)

    assert line_of(MNIST(folder=tmp_path).for_search).startswith(
        f"{path}: cannot be read (Is a directory), expected is md5 of the content {md5(contents[IMAGES])}; remove it"
    )


def test_cifar10_is_read_from_the_extracted_folder_without_its_test_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    members = tiny_cifar10(monkeypatch, closed)
    (tmp_path / "cifar-10" / "cifar-10-batches-bin").mkdir(parents=True)
    for name, content in members.items():
        if "test_batch" not in name:
            (tmp_path / "cifar-10" / name).write_bytes(content)

    data = CIFAR10(folder=tmp_path).for_search()

    assert (len(data.train), len(data.held_out)) == (40, 10)
    assert data.train.images[0, :, 0, 0].tolist() == [0, 100, 200]
    assert data.class_names[3] == "cat"


def test_cifar10_is_read_in_memory_from_a_repacked_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    members = tiny_cifar10(monkeypatch, closed)
    folder = tmp_path / "data"
    (folder / "cifar-10").mkdir(parents=True)
    hostile = {"../../escaped": b"x", "./cifar-10-batches-bin/readme.html": b"x"}
    content = tar_gz({**hostile, **{f"./{name}": content for name, content in members.items()}})
    (folder / "cifar-10" / "cifar-10-binary.tar.gz").write_bytes(content)

    data = CIFAR10(folder=folder).for_finalists()

    assert (len(data.train), len(data.held_out)) == (50, 10)
    assert set(data.held_out.images[:, 0].ravel()) == {5}
    assert files_below(tmp_path) == {"data/cifar-10/cifar-10-binary.tar.gz"}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda members: tar_gz(members)[:200], "cannot be read ("),
        (lambda members: b"no archive", "cannot be read (not a gzip file)"),
        (lambda members: tar_gz({}), "does not contain cifar-10-batches-bin/data_batch_1.bin"),
        (
            lambda members: tar_gz(dict.fromkeys(members, b"")),
            "md5 of the content cifar-10-batches-bin/data_batch_1.bin is d41d8cd98f00b204e9800998ecf8427e, expected ",
        ),
    ],
    ids=["truncated", "not an archive", "empty", "other content"],
)
def test_a_damaged_cifar10_archive_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed: str,
    damage: Callable[[dict[str, bytes]], bytes],
    reason: str,
) -> None:
    members = tiny_cifar10(monkeypatch, closed)
    path = tmp_path / "cifar-10" / "cifar-10-binary.tar.gz"
    path.parent.mkdir()
    path.write_bytes(damage(members))

    line = line_of(CIFAR10(folder=tmp_path).for_search)

    assert line.startswith(f"{path}: {reason}")
    assert line.endswith(f"; remove it to have it downloaded again, or put the file from {closed} at {path}")


def test_cifar100_takes_the_fine_labels_of_an_archive_with_the_right_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = b"".join(bytes([label % 20, label]) + bytes(3072) for label in (*range(100), *range(100)))
    content = tar_gz({"cifar-100-binary/train.bin": records, "cifar-100-binary/test.bin": records})
    path = tmp_path / "cifar-100" / "cifar-100-binary.tar.gz"
    path.parent.mkdir()
    path.write_bytes(content)

    assert line_of(CIFAR100(folder=tmp_path).for_search).startswith(
        f"{path}: md5 is {md5(content)}, expected 03b5dce01913d631647c71ecec9e9cb8; remove it"
    )
    monkeypatch.setattr(CIFAR100, "archive", Published("cifar-100/cifar-100-binary.tar.gz", (), md5=md5(content)))
    data = CIFAR100(folder=tmp_path, validation=0.5).for_search()

    assert sorted(data.train.labels) == sorted(data.held_out.labels) == list(range(100))
    assert (data.shape.classes, len(data.class_names)) == (100, 100)


# Downloads


def test_a_missing_file_is_downloaded_once_into_the_folder_of_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    contents = tiny_mnist(monkeypatch, server.address)
    server.files = {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}
    caplog.set_level("INFO")
    monkeypatch.setattr(pooch.get_logger(), "handlers", [caplog.handler])  # it does not propagate
    task = MNIST(folder=tmp_path)

    assert (task.for_search().train.images == 10).all()
    assert files_below(tmp_path) == {f"mnist/{IMAGES}.gz", f"mnist/{LABELS}.gz"}
    assert (tmp_path / "mnist" / f"{IMAGES}.gz").stat().st_mode & 0o777 == 0o644
    task.for_search()
    assert server.requests == [f"/{IMAGES}.gz", f"/{LABELS}.gz"]
    assert [record.getMessage() for record in caplog.records] == [
        f"downloading {server.address}/{name}.gz to {tmp_path}/mnist/{name}.gz" for name in (IMAGES, LABELS)
    ]


def test_two_searches_that_start_at_once_download_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    contents = tiny_mnist(monkeypatch, server.address)
    server.files = {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: MNIST(folder=tmp_path).for_search(), range(2))

    assert np.array_equal(first.train.images, second.train.images)
    assert sorted(server.requests) == [f"/{IMAGES}.gz", f"/{LABELS}.gz"]


def test_a_second_address_is_tried_when_the_first_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, closed: str
) -> None:
    contents = tiny_mnist(monkeypatch, closed, server.address)
    server.files = {f"/{name}.gz": gzip.compress(content) for name, content in contents.items()}

    assert len(MNIST(folder=tmp_path).for_search().train) == 16


def test_without_network_the_line_says_where_to_get_and_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, closed: str
) -> None:
    contents = tiny_mnist(monkeypatch, server.address, closed)

    assert line_of(MNIST(folder=tmp_path).for_search) == (
        f"{tmp_path}/mnist/{IMAGES}.gz: is missing and could not be downloaded from {server.address}/{IMAGES}.gz "
        f"(HTTP 404) or {closed}/{IMAGES}.gz (Failed to establish a new connection: [Errno 111] Connection refused); "
        f"put the file from there at this place by hand, md5 of the content {md5(contents[IMAGES])}"
    )


def test_a_server_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tiny_mnist(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")

        assert f"{IMAGES}.gz (no answer within 0.1 s); put" in line_of(MNIST(folder=tmp_path).for_search)


def test_an_unknown_host_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    tiny_mnist(monkeypatch, "http://nowhere.invalid")

    assert "(Failed to resolve 'nowhere.invalid' (" in line_of(MNIST(folder=tmp_path).for_search)


def test_a_download_with_wrong_content_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    contents = tiny_mnist(monkeypatch, server.address)
    server.files = {f"/{IMAGES}.gz": gzip.compress(b"an error page")}

    assert (
        f"(md5 of the content {IMAGES} is {md5(b'an error page')}, expected {md5(contents[IMAGES])}); put the file"
        in line_of(MNIST(folder=tmp_path).for_search)
    )
    assert files_below(tmp_path) == set()


def test_a_download_that_breaks_off_is_refused_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    contents = tiny_mnist(monkeypatch, server.address)
    server.files = {f"/{IMAGES}.gz": gzip.compress(contents[IMAGES])}
    server.missing_bytes = 10

    assert f"{IMAGES}.gz: is missing and could not be downloaded" in line_of(MNIST(folder=tmp_path).for_search)
    assert files_below(tmp_path) == set()


def test_an_archive_is_checked_as_a_whole_when_it_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    members = tiny_cifar10(monkeypatch, f"{server.address}/archive")
    content = tar_gz({**members, "added": b"x"})
    server.files = {"/archive": content}

    assert f"(md5 is {md5(content)}, expected {md5(tar_gz(members))}); put the file" in line_of(
        CIFAR10(folder=tmp_path).for_search
    )
    server.files = {"/archive": tar_gz(members)}
    assert len(CIFAR10(folder=tmp_path).for_search().train) == 40


def test_a_data_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    tiny_mnist(monkeypatch, closed)
    folder = tmp_path / "a-file"
    folder.write_text("")

    assert line_of(MNIST(folder=folder).for_search) == (
        f"{folder}/mnist/{IMAGES}.gz: is missing and cannot be written (Not a directory); choose another folder by "
        f"`folder` or NAS_DATA, or put the file from {closed}/{IMAGES}.gz there"
    )


# Own files


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"y_train": None, "x_test": None}, "has no array x_test, y_train; it has x_train, y_test"),
        ({"x_train": np.zeros((100, 4, 4))}, "x_train is float64; it must be uint8, 0 to 255"),
        (
            {"x_train": np.zeros((100, 16), np.uint8)},
            "x_train is of shape (100, 16); it must be (n, height, width) or (n, height, width, channels)",
        ),
        (
            {"x_train": np.zeros((0, 4, 4), np.uint8)},
            "x_train is of shape (0, 4, 4); it must be (n, height, width) or (n, height, width, channels)",
        ),
        (
            {"x_train": np.zeros((100, 3, 32, 32), np.uint8)},
            "x_train is of shape (100, 3, 32, 32); it must be (n, height, width, channels), channels last",
        ),
        ({"y_train": np.zeros(99, int)}, "y_train is int64 of shape (99,); it must be integers of shape (100,)"),
        ({"y_train": np.zeros(100)}, "y_train is float64 of shape (100,); it must be integers of shape (100,)"),
        (
            {"y_train": np.repeat([-1, 7], 50)},
            "y_train is 2 different labels from -1 to 7; it must be 0 to 1, every class occurring",
        ),
        (
            {"x_train": np.full((100, 4, 4), None)},
            "cannot be read as an npz file of plain arrays (Object arrays cannot be loaded when allow_pickle=False)",
        ),
        ({"y_test": np.full(30, 3)}, "test labels are from 3 to 3; those of the training images are 0 to 2"),
        (
            {"x_test": np.zeros((30, 5, 4), np.uint8)},
            "test images are 1 x 5 x 4, training images 1 x 4 x 4 (channels x height x width); they must be equal",
        ),
    ],
)
def test_a_wrong_array_is_named_with_what_is_allowed(tmp_path: Path, changed: dict[str, Any], line: str) -> None:
    path = image_file(tmp_path / "own.npz", **changed)

    assert line_of(ImageFile(path=path).for_finalists) == f"{path}: {line}"


def test_the_test_arrays_of_an_own_file_are_not_read_for_a_search(tmp_path: Path) -> None:
    path = image_file(tmp_path / "own.npz", x_test=np.full((30, 4, 4), None))

    assert len(ImageFile(path=path).for_search().train) == 80


def test_colour_images_are_handed_out_channels_first(tmp_path: Path) -> None:
    x_train = np.zeros((100, 6, 5, 3), np.uint8)
    x_train[..., 2] = 7
    path = image_file(tmp_path / "own.npz", x_train=x_train)

    data = ImageFile(path=path).for_search()

    assert (data.shape.channels, data.shape.height, data.shape.width) == (3, 6, 5)
    assert (data.train.images[:, 2] == 7).all()
    assert not data.train.images[:, :2].any()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "no zip archive, or a truncated one"),
        (b"x,y\n1,2\n", "no zip archive, or a truncated one"),
    ],
    ids=["missing", "empty", "text"],
)
def test_what_is_no_npz_file_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "own.npz"
    if content is not None:
        path.write_bytes(content)

    line = line_of(ImageFile(path=path).for_search)

    assert line == f"{path}: cannot be read as an npz file of plain arrays ({reason})"


def test_a_truncated_npz_file_is_named(npz: Path) -> None:
    npz.write_bytes(npz.read_bytes()[:-100])

    assert line_of(ImageFile(path=npz).for_search).startswith(f"{npz}: cannot be read as an npz file of plain arrays (")


def test_an_own_file_with_another_checksum_is_refused(npz: Path) -> None:
    found = hashlib.sha256(npz.read_bytes()).hexdigest()

    assert line_of(ImageFile(path=npz, sha256="A" * 64).for_search) == (
        f"{npz}: sha256 is {found}, expected {'a' * 64}"
    )
    assert len(ImageFile(path=npz, sha256=found.upper()).for_search().train) == 80


def test_a_class_with_too_few_images_for_the_split_is_named(tmp_path: Path) -> None:
    path = image_file(tmp_path / "own.npz", y_train=np.repeat([0, 1], [98, 2]))

    assert line_of(ImageFile(path=path).for_search) == (
        f"{path}: class 1 has 2 images, but none among the 20 validation_images (validation is 0.2); "
        "every class needs at least one"
    )


def test_more_images_than_there_are_cannot_be_asked_for(npz: Path) -> None:
    assert (
        line_of(ImageFile(path=npz, train_images=81).for_search) == f"{npz}: train_images is 81, but there are only 80"
    )


# Settings


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist", "cifar-10", "cifar-100"])
def test_a_configuration_names_a_task(name: str) -> None:
    assert TypeAdapter(TaskSettings).validate_python({"name": name}).name == name


@pytest.mark.parametrize("wrong", [{"validation": 0}, {"validation": 1}, {"train_images": 0}, {"download": True}])
def test_settings_out_of_range_and_unknown_ones_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TypeAdapter(TaskSettings).validate_python({"name": "mnist", **wrong})


def test_importing_the_tasks_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'sklearn', 'pooch', 'requests', 'pandas'}"
    script = f"import sys, nas_lib.tasks; print(sorted({heavy} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_documentation_states_the_licences_that_model_cards_state() -> None:
    rows = (Path(__file__).parent.parent / "docs" / "data.md").read_text().splitlines()
    for task in (Digits, MNIST, FashionMNIST, CIFAR10, CIFAR100, ImageFile):
        (row,) = (row for row in rows if row.startswith(f"| `{task.model_fields['name'].default}` |"))
        assert row.endswith(f"| {task.licence} |")
