"""Files of public data sets: found in the data folder or downloaded into it, and checked at every use."""

import gzip
import hashlib
import logging
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from nas_lib.tasks.data import DataError

log = logging.getLogger(__name__)

FOLDER_VARIABLE = "NAS_DATA"
TIMEOUT = 30.0
"""Seconds without an answer after which a server counts as dead."""


@dataclass(frozen=True)
class Published:
    """A `.gz` or `.tar.gz` file as the publishers of a data set offer it."""

    file: str
    """Where it lies below the data folder, for example `mnist/train-labels-idx1-ubyte.gz`."""
    urls: tuple[str, ...]
    """Addresses of the same file, tried in this order."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Name -> md5 of each file in it. It may as well lie unpacked beside `file`, under this name."""
    md5: str | None = None
    """Of the file itself; None where a copy compressed anew is as good, because `contents` is checked."""


def data_folder(folder: Path | None) -> Path:
    """The folder of all data sets: `folder`, else that of the environment variable NAS_DATA, else `data`."""
    return folder or Path(os.environ.get(FOLDER_VARIABLE) or "data")


def read_contents(folder: Path, published: Published, names: Sequence[str]) -> list[bytes]:
    """The named files out of a published one, checked; downloads it where it is missing.

    Reads nothing else from it. A file that is there but wrong is left as it is.
    Raises DataError when a file is wrong or unreadable, or missing and not to be had.
    """
    archive = folder / published.file
    plain = [archive.parent / name for name in names]
    try:
        unpacked = bool(published.contents) and all(path.is_file() for path in plain)
        missing = not unpacked and not archive.exists()
    except OSError as error:
        raise DataError(f"{archive.parent}: cannot be read ({_reason(error)})") from None
    if unpacked:
        found = []
        for path, name in zip(plain, names, strict=True):
            with _explained(path, published, archive):
                found += _checked(path, published, [name], packed=False)
        return found
    if missing:
        _download(archive, published)
    with _explained(archive, published, archive):
        return _checked(archive, published, names, packed=True)


def read_matching(folder: Path, published: Published, pattern: str) -> dict[str, bytes]:
    """Name -> content of the files in a `.tar.gz` whose names match a regular expression, sorted by name.

    The archive is downloaded where it is missing, and checked as a whole; one that is there but wrong is left as it is.
    Raises DataError when it is wrong or unreadable, or missing and not to be had.
    """
    archive = folder / published.file
    try:
        missing = not archive.exists()
    except OSError as error:
        raise DataError(f"{archive.parent}: cannot be read ({_reason(error)})") from None
    if missing:
        _download(archive, published)
    matches = re.compile(pattern).fullmatch
    with _explained(archive, published, archive), _legible(published):
        _check_md5("md5", _file_md5(archive), published.md5)
        return dict(sorted(_members(archive, lambda name: matches(name) is not None).items()))


@contextmanager
def _explained(path: Path, published: Published, archive: Path) -> Iterator[None]:
    """Whatever is wrong with a file that is there, as a DataError that says what to do."""
    try:
        yield
    except ValueError as error:
        urls = " or ".join(published.urls)
        raise DataError(
            f"{path}: {error}; remove it to have it downloaded again, or put the file from {urls} at {archive}"
        ) from None


@contextmanager
def _legible(published: Published) -> Iterator[None]:
    """A file that cannot be read or unpacked, as a ValueError that says so."""
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ValueError(f"cannot be read ({_reason(error)}), expected is {_expectation(published)}") from error


def _checked(path: Path, published: Published, names: Sequence[str], *, packed: bool) -> list[bytes]:
    """The named files in `path`; ValueError says what is wrong with it."""
    with _legible(published):
        if packed and not published.contents:
            _check_md5("md5", _file_md5(path), published.md5)
        if not packed:
            found = {names[0]: path.read_bytes()}
        elif published.file.endswith(".tar.gz"):
            found = _members(path, set(names).__contains__, len(names))
        else:
            found = {names[0]: gzip.decompress(path.read_bytes())}
    for name in names:
        if name not in found:
            raise ValueError(f"does not contain {name}")
        if name in published.contents:
            content = hashlib.md5(found[name], usedforsecurity=False).hexdigest()
            _check_md5(f"md5 of the content {name}", content, published.contents[name])
    return [found[name] for name in names]


def _members(path: Path, wanted: Callable[[str], bool], count: int | None = None) -> dict[str, bytes]:
    """Reads members in memory, in one pass that ends with the last of `count`: nothing is extracted to disk."""
    found: dict[str, bytes] = {}
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = str(PurePosixPath(member.name))
            if wanted(name) and (stream := archive.extractfile(member)) is not None:
                found[name] = stream.read()
                if len(found) == count:
                    break
    return found


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _check_md5(what: str, found: str, expected: str | None) -> None:
    if found != expected:
        raise ValueError(f"{what} is {found}, expected {expected}")


def _download(archive: Path, published: Published) -> None:
    """Fetches a published file from the first address that serves it right; concurrent calls fetch it once."""
    import pooch
    import requests
    from filelock import FileLock

    def fetch(url: str, temporary: str, _: object) -> None:
        pooch.HTTPDownloader(timeout=TIMEOUT)(url, temporary, None)
        path = Path(temporary)
        if published.md5 is None:
            _checked(path, published, list(published.contents), packed=True)
        else:
            _check_md5("md5", _file_md5(path), published.md5)
        path.chmod(0o644)  # temporary files are private, a data folder may be shared

    pooch.get_logger().setLevel(logging.WARNING)
    failures = []
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(archive.parent / ".lock"):
            if archive.exists():
                return
            for url in published.urls:
                log.info("downloading %s to %s", url, archive)
                try:
                    # Checked by `fetch` before pooch moves it into place.
                    folder = archive.parent.resolve()
                    pooch.retrieve(url, known_hash=None, fname=archive.name, path=folder, downloader=fetch)
                    return
                except (requests.RequestException, ValueError) as error:
                    failures.append(f"{url} ({_reason(error)})")
    except OSError as error:
        raise DataError(
            f"{archive}: is missing and cannot be written ({_reason(error)}); choose another folder by `folder` or "
            f"{FOLDER_VARIABLE}, or put the file from {' or '.join(published.urls)} there"
        ) from None
    raise DataError(
        f"{archive}: is missing and could not be downloaded from {' or '.join(failures)}; "
        f"put the file from there at this place by hand, {_expectation(published)}"
    )


def _expectation(published: Published) -> str:
    if published.md5 is not None:
        return f"md5 {published.md5}"
    return "md5 of the content " + ", ".join(published.contents.values())


def _reason(error: Exception) -> str:
    """An exception in a few words, on one line."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT:g} s"
    # urllib3 hides why a connection failed in an argument of an argument, behind `HTTPConnection(...): `.
    cause = getattr(error.args[0], "reason", error) if error.args else error
    return " ".join(str(getattr(cause, "strerror", None) or cause).rpartition("): ")[2].split())
