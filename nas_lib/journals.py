"""Journals: results one per line as they are made, so that what is there is never made again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import BaseModel, ValidationError

from nas_lib.layout import write_text

Entry = TypeVar("Entry", bound=BaseModel)


def begin(path: Path, head: Mapping[str, Any], entry: type[Entry]) -> list[Entry]:
    """The entries of a journal, whose first line is its head: all that they depend on beside their own settings.

    It is begun anew if it has another head, and a torn last line is cut off.
    """
    lines = path.read_text().splitlines() if path.exists() else []
    first = json.dumps(head)
    found = []
    for line in lines[1:] if lines[:1] == [first] else []:
        try:
            found.append(entry.model_validate_json(line))
        except ValidationError:
            break
    write_text(path, "\n".join([first, *(one.model_dump_json() for one in found)]) + "\n")
    return found


def add(file: IO[str], entry: BaseModel) -> None:
    """Write an entry at once."""
    file.write(entry.model_dump_json() + "\n")
    file.flush()
