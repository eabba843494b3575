"""Image-classification tasks: where their images come from and how they are split."""

import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, StrictInt

from nas_lib.randomness import generator
from nas_lib.settings import Settings
from nas_lib.tasks.data import DataError, ImageData, Shape, Split, facts
from nas_lib.tasks.download import Published, data_folder, read_contents

Part = Literal["train", "test"]
"""The two official parts of a data set."""

DataFolder = Annotated[
    Path | None,
    Field(description="Folder of all data sets. Default: the environment variable NAS_DATA, else `data`."),
]


class ImageTask(Settings, ABC):
    """Official training and test images, and which of the training images are held out for validation.

    The validation images depend on `validation` and `split_seed` alone, never on the seed of an experiment.
    """

    name: str
    validation: float = Field(default=0.2, gt=0, lt=1)
    """Share of the official training images held out for validation, class by class."""
    split_seed: StrictInt = Field(default=0, ge=0)
    """Draws which images are held out."""
    train_images: StrictInt | None = Field(default=None, ge=1)
    """Use this many of the training images, classes in proportion; a larger number contains a smaller one's."""
    validation_images: StrictInt | None = Field(default=None, ge=1)
    """Use this many of the validation images, classes in proportion."""

    modality: ClassVar[str] = "images"
    """What kind of networks a task is for: those of spaces of the same modality."""
    items: ClassVar[str] = "images"
    """What the sizes of its splits count."""
    measures: ClassVar[tuple[str, ...]] = ("error", "loss")
    """What is measured on a split and can be an objective."""
    finalists_validate: ClassVar[bool] = False
    """Whether a validation split is left when finalists are trained."""
    training_defaults: ClassVar[Mapping[str, object]] = {}
    """Settings of `training` where they are not given."""
    class_names: ClassVar[tuple[str, ...]] = ()
    """In the order of the labels; empty when the classes are just numbered."""
    licence: ClassVar[str] = "not known"
    """Of the data, as stated by its source."""

    @abstractmethod
    def read(self, part: Part) -> Split:
        """An official part, whole. Reads nothing of the other part. Raises DataError."""

    @property
    def source(self) -> str:
        """What an error message calls the data."""
        return self.name

    def for_search(self) -> ImageData:
        """Training and validation images; the test images are not read. Raises DataError."""
        official = self.read("train")
        train, validation = self._train_and_validation(official.labels)
        return self._image_data(_take(official, train), _take(official, validation))

    def for_finalists(self) -> ImageData:
        """Training and validation images together, and the test images. Raises DataError."""
        official, test = self.read("train"), self.read("test")
        train, validation = self._train_and_validation(official.labels)
        if test.images.shape[1:] != official.images.shape[1:]:
            raise DataError(
                f"{self.source}: test images are {_size(test.images)}, training images {_size(official.images)} "
                "(channels x height x width); they must be equal"
            )
        if test.labels.min() < 0 or test.labels.max() > official.labels.max():
            raise DataError(
                f"{self.source}: test labels are from {test.labels.min()} to {test.labels.max()}; "
                f"those of the training images are 0 to {official.labels.max()}"
            )
        return self._image_data(_take(official, np.union1d(train, validation)), test)

    def facts(self) -> dict[str, object]:
        """Sizes of the splits, shape and class names; reads and checks all of the data. Raises DataError."""
        return facts(self.name, self.items, self.for_search(), self.for_finalists())

    def _train_and_validation(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training and of the validation images, limits applied."""
        quantiles = class_quantiles(labels, generator(self.split_seed, "validation split"))
        order = np.argsort(quantiles, kind="stable")
        held_out = quantiles[order] < self.validation
        return (
            self._limited("train_images", order[~held_out], self.train_images, labels),
            self._limited("validation_images", order[held_out], self.validation_images, labels),
        )

    def _limited(self, setting: str, order: np.ndarray, limit: int | None, labels: np.ndarray) -> np.ndarray:
        if limit is not None and limit > len(order):
            raise DataError(f"{self.source}: {setting} is {limit}, but there are only {len(order)}")
        indices = np.sort(order[:limit])
        missing = np.flatnonzero(np.bincount(labels[indices], minlength=labels.max() + 1) == 0)
        if len(missing):
            raise DataError(
                f"{self.source}: class {missing[0]} has {np.count_nonzero(labels == missing[0])} images, but none "
                f"among the {len(indices)} {setting} (validation is {self.validation}); every class needs at least one"
            )
        return indices

    def _image_data(self, train: Split, held_out: Split) -> ImageData:
        channels, height, width = train.images.shape[1:]
        classes = int(train.labels.max()) + 1
        mean, std = channel_statistics(train.images)
        return ImageData(
            train=train,
            held_out=held_out,
            shape=Shape(channels, height, width, classes),
            class_names=self.class_names or tuple(str(label) for label in range(classes)),
            mean=mean,
            std=std,
        )


def class_quantiles(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random place in (0, 1) for each image, evenly spaced within each class; shape (n,).

    The images below q are the share q of every class, to the nearest image.
    """
    shuffled = rng.permutation(len(labels))
    quantiles = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        quantiles[members] = (np.arange(len(members)) + 0.5) / len(members)
    return quantiles


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of (n, channels, height, width) uint8 images scaled to [0, 1].

    A constant channel has no scale; its deviation is given as 1, so that one can divide by it.
    """
    means, stds = [], []
    for channel in range(images.shape[1]):
        values = images[:, channel]
        mean = float(values.mean())
        variance = float(np.square(values, dtype=np.uint16).mean()) - mean**2  # 255^2 fits in 16 bits
        constant = values.min() == values.max()
        means.append(mean / 255)
        stds.append(1.0 if constant else variance**0.5 / 255)
    return tuple(means), tuple(stds)


def _take(split: Split, indices: np.ndarray) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _size(images: np.ndarray) -> str:
    return " x ".join(str(length) for length in images.shape[1:])


class Digits(ImageTask):
    """1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn: no download.

    They have no official test part; a fifth of each class, always the same, is taken as such.
    """

    name: Literal["digits"] = "digits"

    licence = "CC BY 4.0 (UCI repository)"

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        # The file scikit-learn ships, read without importing it: that would cost every worker over a second.
        package = find_spec("sklearn")
        if package is None or not package.submodule_search_locations:
            raise DataError("digits: they are part of scikit-learn, which is not installed")
        rows = np.loadtxt(
            Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz",
            dtype=np.int64,
            delimiter=",",
        )
        grey, labels = rows[:, :-1], rows[:, -1]
        images = np.rint(grey * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        test = class_quantiles(labels, generator(0, "digits test split")) < 0.2
        return _take(Split(images, labels.astype(np.int64)), np.flatnonzero(test == (part == "test")))


_IDX_CONTENTS: Mapping[Part, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _idx_files(folder: str, addresses: Sequence[str], md5: Mapping[str, str]) -> dict[str, Published]:
    return {
        name: Published(f"{folder}/{name}.gz", tuple(f"{address}/{name}.gz" for address in addresses), {name: digest})
        for name, digest in md5.items()
    }


def _read_idx(folder: Path, files: Mapping[str, Published], part: Part) -> Split:
    """28 x 28 grey images and labels of an idx pair; their checksums vouch for the headers, which are skipped."""
    images, labels = (read_contents(folder, files[name], [name])[0] for name in _IDX_CONTENTS[part])
    return Split(
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28).copy(),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )


class MNIST(ImageTask):
    """70,000 handwritten digits, 28 x 28 grey, 10 classes (LeCun, Cortes, Burges)."""

    name: Literal["mnist"] = "mnist"
    folder: DataFolder = None

    licence = "none stated by the mirrors"
    files: ClassVar[Mapping[str, Published]] = _idx_files(
        "mnist",
        # The original server is gone; these are its public mirrors.
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    )

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        return _read_idx(data_folder(self.folder), self.files, part)


class FashionMNIST(ImageTask):
    """70,000 pictures of clothes, 28 x 28 grey, 10 classes (Xiao, Rasul, Vollgraf 2017)."""

    name: Literal["fashion-mnist"] = "fashion-mnist"
    folder: DataFolder = None

    licence = "MIT"
    class_names = (
        "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    files: ClassVar[Mapping[str, Published]] = _idx_files(
        "fashion-mnist",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    )

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        return _read_idx(data_folder(self.folder), self.files, part)


def _read_cifar(folder: Path, archive: Published, names: Sequence[str], label_bytes: int) -> Split:
    """32 x 32 RGB images of the binary version; the last of `label_bytes` labels of an image is the one used."""
    content = b"".join(read_contents(folder, archive, names))
    records = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
    return Split(
        records[:, label_bytes:].reshape(-1, 3, 32, 32).copy(),
        records[:, label_bytes - 1].astype(np.int64),
    )


class CIFAR10(ImageTask):
    """60,000 photographs, 32 x 32 RGB, 10 classes (Krizhevsky 2009)."""

    name: Literal["cifar-10"] = "cifar-10"
    folder: DataFolder = None

    licence = "none; the authors ask to be cited"
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    archive: ClassVar[Published] = Published(
        "cifar-10/cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        {
            "cifar-10-batches-bin/data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "cifar-10-batches-bin/data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "cifar-10-batches-bin/data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "cifar-10-batches-bin/data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "cifar-10-batches-bin/data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "cifar-10-batches-bin/test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        md5="c32a1d4ab5d03f1284b67883e8d87530",
    )

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        batches = ["test_batch"] if part == "test" else [f"data_batch_{batch}" for batch in range(1, 6)]
        names = [f"cifar-10-batches-bin/{batch}.bin" for batch in batches]
        return _read_cifar(data_folder(self.folder), self.archive, names, label_bytes=1)


class CIFAR100(ImageTask):
    """60,000 photographs, 32 x 32 RGB, 100 classes: the fine labels (Krizhevsky 2009)."""

    name: Literal["cifar-100"] = "cifar-100"
    folder: DataFolder = None

    licence = "none; the authors ask to be cited"
    class_names = (
        "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
        "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
        "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
        "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
        "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
        "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
        "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
        "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
        "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
        "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
    )  # fmt: skip
    # Checksums of the files in it are not published, so it is checked as a whole.
    archive: ClassVar[Published] = Published(
        "cifar-100/cifar-100-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        md5="03b5dce01913d631647c71ecec9e9cb8",
    )

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        return _read_cifar(data_folder(self.folder), self.archive, [f"cifar-100-binary/{part}.bin"], label_bytes=2)


class ImageFile(ImageTask):
    """Images of one's own: an `.npz` file with the arrays x_train, y_train, x_test and y_test.

    Images are uint8, (n, height, width) or (n, height, width, channels); labels are integers from 0, (n,).
    """

    name: Literal["npz"] = "npz"
    path: Path
    """The file; relative to where the command runs."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """Checksum the file must have, 64 hexadecimal digits."""

    licence = "that of your images"

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`."""
        try:
            images, labels = self._arrays(f"x_{part}", f"y_{part}")
        except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{self.path}: cannot be read as an npz file of plain arrays ({reason})") from None
        self._check(part, images, labels)
        channels_last = images if images.ndim == 4 else images[..., np.newaxis]
        return Split(np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)), labels.astype(np.int64))

    def _arrays(self, *names: str) -> list[np.ndarray]:
        with self.path.open("rb") as file:
            if self.sha256 is not None:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest != self.sha256.lower():
                    raise DataError(f"{self.path}: sha256 is {digest}, expected {self.sha256.lower()}")
            if not zipfile.is_zipfile(file):
                raise ValueError("no zip archive, or a truncated one")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                missing = sorted({"x_train", "y_train", "x_test", "y_test"} - set(arrays.files))
                if missing:
                    found = ", ".join(arrays.files) or "none"
                    raise DataError(f"{self.path}: has no array {', '.join(missing)}; it has {found}")
                return [np.asarray(arrays[name]) for name in names]

    def _check(self, part: Part, images: np.ndarray, labels: np.ndarray) -> None:
        def wrong(array: str, found: str, allowed: str) -> DataError:
            return DataError(f"{self.path}: {array}_{part} is {found}; it must be {allowed}")

        if images.dtype != np.uint8:
            raise wrong("x", f"{images.dtype}", "uint8, 0 to 255")
        if images.ndim not in (3, 4) or images.size == 0:
            raise wrong("x", f"of shape {images.shape}", "(n, height, width) or (n, height, width, channels)")
        if images.ndim == 4 and images.shape[3] > min(images.shape[1:3]):
            raise wrong("x", f"of shape {images.shape}", "(n, height, width, channels), channels last")
        if not np.issubdtype(labels.dtype, np.integer) or labels.shape != images.shape[:1]:
            raise wrong("y", f"{labels.dtype} of shape {labels.shape}", f"integers of shape {images.shape[:1]}")
        classes = len(np.unique(labels))
        if part == "train" and (labels.min() != 0 or labels.max() != classes - 1):
            found = f"{classes} different labels from {labels.min()} to {labels.max()}"
            raise wrong("y", found, f"0 to {classes - 1}, every class occurring")
