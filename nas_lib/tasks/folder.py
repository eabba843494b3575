"""Images of one's own in folders, one folder per class; decoded once and kept as arrays."""

import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, StrictInt

from nas_lib.randomness import generator
from nas_lib.tasks.data import DataError, ImageData, Split
from nas_lib.tasks.download import data_folder
from nas_lib.tasks.images import DataFolder, ImageTask, Part, class_quantiles

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Files with other names, such as lists and licences, are no images and are passed over."""

Listing = list[tuple[Path, int]]
"""Image files with the number of their class."""


class ImageFolder(ImageTask):
    """Images of one's own: train/CLASS/IMAGE and test/CLASS/IMAGE below a folder, or only CLASS/IMAGE.

    Each image is turned upright as its EXIF data say, scaled until it just covers `height` x `width`, and cut to that
    size around its centre: for squares, the shorter side is scaled.
    """

    name: Literal["image-folder"] = "image-folder"
    path: Path
    """The folder; relative to where the command runs."""
    height: StrictInt = Field(ge=1)
    """Pixels to which all images are brought."""
    width: StrictInt = Field(ge=1)
    """Pixels to which all images are brought."""
    colour: Literal["rgb", "grey"] = "rgb"
    """Three channels or one."""
    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of every class taken as test images, always the same; only where the folder has no parts train and test."""
    images_per_class: StrictInt | None = Field(default=None, ge=1)
    """Use only this many images of each class in either part, always the same. All images used lie in the memory of the
    device. Default: all."""
    folder: DataFolder = None

    @property
    def source(self) -> str:
        """The folder."""
        return str(self.path)

    def read(self, part: Part) -> Split:
        """See `ImageTask.read`. Decoded images come from a file in the data folder, made anew when files changed."""
        from filelock import FileLock

        listing = self._listing(part)
        settings = [self.height, self.width, self.colour, part]
        files = [(str(file.relative_to(self.path)), file.stat().st_size, label) for file, label in listing]
        fingerprint = _digest([settings, files])
        place = _digest([str(self.path.resolve()), settings, self.test, self.images_per_class])[:12]
        cache = data_folder(self.folder) / "image-folder" / f"{self.path.resolve().name}-{part}-{place}.npz"
        kept = _kept(cache, fingerprint)
        if kept is not None:
            return kept
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(cache.with_suffix(".lock")):
                kept = _kept(cache, fingerprint)
                if kept is None:
                    kept = self._decoded(listing)
                    _keep(cache, fingerprint, kept)
        except OSError as error:
            raise DataError(
                f"{cache}: decoded images cannot be written ({error.strerror or error}); choose another folder by "
                "`folder` or NAS_DATA"
            ) from None
        return kept

    def _image_data(self, train: Split, held_out: Split) -> ImageData:
        names = tuple(folder.name for folder in _class_folders(self._part_folder("train")))
        return replace(super()._image_data(train, held_out), class_names=names)

    def _has_parts(self) -> bool:
        return (self.path / "train").is_dir() and (self.path / "test").is_dir()

    def _part_folder(self, part: Part) -> Path:
        return self.path / part if self._has_parts() else self.path

    def _listing(self, part: Part) -> Listing:
        """The image files of a part, class by class, by name."""
        classes = [folder.name for folder in _class_folders(self._part_folder("train"))]
        folders = _class_folders(self._part_folder(part))
        unknown = sorted({folder.name for folder in folders} - set(classes))
        if unknown:
            raise DataError(
                f"{self.path}: the test images have a class {unknown[0]!r} that the training images do not have"
            )
        listing: Listing = []
        for folder in folders:
            files = [file for file in _entries(folder) if file.suffix.lower() in SUFFIXES and file.is_file()]
            if not files:
                raise DataError(
                    f"{folder}: holds no images ({', '.join(SUFFIXES)}); a data set is train/CLASS/IMAGE and "
                    "test/CLASS/IMAGE, or CLASS/IMAGE"
                )
            listing += [(file, classes.index(folder.name)) for file in files]
        if len(classes) < 2:
            raise DataError(f"{self.path}: has {len(classes)} folders of classes, allowed are at least 2")
        labels = np.array([label for _, label in listing])
        chosen = np.ones(len(labels), dtype=bool)
        if not self._has_parts():
            chosen = (class_quantiles(labels, generator(0, "image folder test split")) < self.test) == (part == "test")
        chosen = self._limited_per_class(labels, chosen)
        missing = set(labels) - set(labels[chosen])
        if missing:
            count = np.count_nonzero(labels == min(missing))
            raise DataError(
                f"{self.path}: class {classes[min(missing)]!r} has {count} images, but none among the {part} images "
                f"(test is {self.test}); every class needs at least one"
            )
        return [entry for entry, wanted in zip(listing, chosen, strict=True) if wanted]

    def _limited_per_class(self, labels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Which of the `chosen` images (n,) are used where a number per class is given."""
        if self.images_per_class is None:
            return chosen
        order = np.flatnonzero(chosen)[np.argsort(generator(0, "image folder limit").random(chosen.sum()))]
        limited = np.zeros_like(chosen)
        for label in np.unique(labels):
            limited[order[labels[order] == label][: self.images_per_class]] = True
        return limited

    def _decoded(self, listing: Listing) -> Split:
        log.info("decoding %d images of %s to %d x %d pixels", len(listing), self.path, self.height, self.width)
        channels = 3 if self.colour == "rgb" else 1
        try:
            images = np.empty((len(listing), channels, self.height, self.width), np.uint8)
        except MemoryError:
            size = len(listing) * channels * self.height * self.width / 1e9
            raise DataError(
                f"{self.path}: {len(listing)} images take {size:.1f} GB, more than the memory holds; "
                "lower images_per_class, height or width"
            ) from None
        for image, (file, _) in zip(images, listing, strict=True):
            image[:] = self._pixels(file)
        return Split(images, np.array([label for _, label in listing], np.int64))

    def _pixels(self, file: Path) -> np.ndarray:
        """An image as uint8 (channels, height, width)."""
        from PIL import Image, ImageOps

        try:
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    raise ValueError(f"mode {image.mode}, allowed are at most 8 bits per channel")
                upright = ImageOps.exif_transpose(image).convert("RGB" if self.colour == "rgb" else "L")
            fitted = ImageOps.fit(upright, (self.width, self.height), Image.Resampling.BILINEAR)
        except Exception as error:  # Pillow raises many kinds for a damaged file
            reason = " ".join(str(getattr(error, "strerror", None) or error).replace(str(file), "it").split())
            raise DataError(f"{file}: cannot be read as an image ({reason}); replace or remove it") from None
        pixels = np.asarray(fitted)
        return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[np.newaxis]


def _class_folders(parent: Path) -> list[Path]:
    return [entry for entry in _entries(parent) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, hidden files left out."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from None


def _digest(content: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _kept(cache: Path, fingerprint: str) -> Split | None:
    """The images in a file; None where there is none, or a damaged one, or one of other files or settings."""
    if not cache.exists():
        return None
    try:
        with np.load(cache, allow_pickle=False) as arrays:
            if str(arrays["fingerprint"]) != fingerprint:
                return None
            return Split(arrays["images"], arrays["labels"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        log.warning("%s is damaged (%s): the images are decoded again", cache, error)
        return None


def _keep(cache: Path, fingerprint: str, split: Split) -> None:
    """Write the file as a whole or not at all."""
    temporary = cache.with_name(f".{cache.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez(file, fingerprint=np.array(fingerprint), images=split.images, labels=split.labels)
        temporary.replace(cache)
    finally:
        temporary.unlink(missing_ok=True)
