"""Reading configurations: YAML files, and mistakes in plain words, whatever a configuration is of."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from nas_lib.settings import Settings, UserError, shortened

Model = TypeVar("Model", bound=Settings)


class ConfigurationError(UserError):
    """The configuration is wrong. The message has one line per mistake."""


SLUG = r"^[a-z0-9][a-z0-9_-]{0,63}$"
"""No dots, so that no folder has the name of a file beside it."""
FOLDER_NAME = r"^[^{}*?\[\]\n]+$"
"""Braces would be wildcards of the workflow."""
PATTERNS = {
    SLUG: "1 to 64 small letters, digits, '_' and '-', beginning with a letter or digit",
    FOLDER_NAME: "a path of at least one character, without braces, brackets, '*' and '?'",
}
ARTIFACTS = "mlartifacts"
"""The folder of `results` that is nobody's results but MLflow's."""
RESERVED = frozenset({"benchmarks", "figures", "logs", "tables"})
"""Folders of results that are no searches and no problems."""
KINDS = {
    "experiment": "python -m nas_lib",
    "laboratory": "python -m nas_lib laboratory",
    "predictor_study": "python -m nas_lib predictors",
    "score_study": "python -m nas_lib scores",
}
"""What a configuration may be of, by the key it has, and the commands that take it."""
ALLOWED = {
    "int_": "a whole number",
    "float_": "a number",
    "string_type": "text",
    "bool_": "true or false",
    "tuple_type": "a list",
    "model_": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "too_short": "at least one entry",
    "path_type": "a path",
    "invalid_key": "a key that is text",
}
"""Plain words for the kinds of mistakes that pydantic describes for programmers, by how the kind begins."""


def _not_artifacts(name: str) -> str:
    if name == ARTIFACTS:
        raise ValueError(f"found {name!r}, allowed is any name but that of MLflow's folder beside the results")
    return name


def _home_expanded(folder: str) -> str:
    try:
        return str(Path(folder).expanduser())
    except RuntimeError as error:
        raise ValueError(f"found {folder!r}, allowed is ~ of a user with a home folder") from error


Name = Annotated[str, Field(pattern=SLUG), AfterValidator(_not_artifacts)]
"""Of what a configuration describes: its folder below the results."""
ResultsFolder = Annotated[str, Field(pattern=FOLDER_NAME), AfterValidator(_home_expanded)]


def folder_mistake(name: str) -> str | None:
    """Why a name cannot be that of a folder of searches, None where it can."""
    if name in RESERVED:
        return f"{name!r} is the name of another folder, allowed is any but {sorted(RESERVED)}"
    return None if re.fullmatch(SLUG, name) else f"{name!r} is a folder name, allowed is {PATTERNS[SLUG]}"


def name_mistakes(key: str, names: Sequence[str], hint: str = "", *, folders: bool = True) -> Iterator[str]:
    """What is wrong with the names of the entries of a key: they occur twice, or cannot be those of folders."""
    for twice in sorted({name for name in names if names.count(name) > 1}):
        yield f"{key}: {twice} occurs twice, allowed are different names{hint}"
    for index, name in enumerate(names if folders else ()):
        if mistake := folder_mistake(name):
            yield f"{key}.{index}: {mistake}"


def refuse_other_kind(content: object, kind: str, source: str) -> None:
    """Refuse the configuration of something else than `kind`, one of `KINDS`.

    Raises:
        ConfigurationError: in one line, instead of one for every key that the other has.
    """
    others = [key for key in KINDS if key != kind and isinstance(content, Mapping) and key in content]
    for other in others:
        if kind in cast(Mapping[str, Any], content):
            raise ConfigurationError(f"{source}: found both {kind} and {other}, allowed is one of these keys")
        raise ConfigurationError(
            f"{source}: {other}: this configures one {other}, allowed is one {kind}; for this file there is "
            f"`{KINDS[other]}`"
        )


def read(path: Path) -> object:
    """The content of a YAML or JSON file.

    Raises:
        ConfigurationError: it cannot be read, in one line.
    """
    try:
        return _Loader(path.read_text()).get_single_data()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date such as 2024-13-01
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}, column {where.column + 1}:" if where else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        raise ConfigurationError(f"{path}:{line} not valid YAML: {problem}") from error


def read_merged(paths: Sequence[Path], overrides: Mapping[str, Any]) -> tuple[object, str]:
    """The content of several files, later ones over earlier ones key by key and overrides over all, and its source.

    Raises:
        ConfigurationError: a file cannot be read, in one line.
    """
    contents = [read(path) for path in paths]
    if len(contents) == 1 and not overrides:
        return contents[0], str(paths[0])
    return merge([*contents, {key: _typed(value) for key, value in overrides.items()}]), " + ".join(
        [*map(str, paths), *(["--config"] if overrides else [])]
    )


def _typed(value: Any) -> Any:
    """A list or mapping of --config, in which Snakemake leaves everything as text, as YAML reads it."""
    if isinstance(value, list):
        return [_typed(_scalar(entry)) for entry in value]
    if isinstance(value, Mapping):
        return {key: _typed(_scalar(entry)) for key, entry in value.items()}
    return value


def _scalar(entry: Any) -> Any:
    try:
        return yaml.safe_load(entry) if isinstance(entry, str) else entry
    except yaml.YAMLError:
        return entry


def merge(contents: Sequence[object]) -> dict[str, Any]:
    """Later contents over earlier ones, key by key."""
    merged: dict[str, Any] = {}
    for content in contents:
        if isinstance(content, Mapping):
            _merge(merged, content)
    return merged


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice in a mapping, of which YAML would silently take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} occurs twice", problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node


def checked(model: type[Model], content: object, source: str) -> tuple[Model | None, list[str]]:
    """The configuration that plain data describes, None where it is wrong, and its mistakes, one line each.

    Raises:
        ConfigurationError: it is not even a mapping.
    """
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{source}: found {_shown(content)}, allowed is a mapping of keys to values")
    try:
        return model.model_validate(content), []
    except ValidationError as error:
        return None, [_line(details, model) for details in _without_consequences(error.errors())]


def _without_consequences(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """The mistakes without those that follow from one further inside: a list is too short without its bad items."""

    def caused(details: ErrorDetails) -> bool:
        place = details["loc"]
        inside = any(len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in errors)
        return details["type"] == "too_short" and inside

    return [details for details in errors if not caused(details)]


def parsed(
    model: type[Model], kind: str, content: object, source: str, impossible: Callable[[dict[str, Any]], Iterable[str]]
) -> Model:
    """The configuration of a kind, one of `KINDS`, that plain data describes.

    Args:
        source: where the data comes from.
        impossible: what is wrong with combinations of sections, given those that are right in themselves.

    Raises:
        ConfigurationError: all mistakes, one line each: source, path of the key, what was found, what is allowed.
    """
    refuse_other_kind(content, kind, source)
    found, mistakes = checked(model, content, source)
    mistakes += impossible(valid_sections(model, cast(Mapping[str, Any], content)))
    if mistakes or found is None:
        raise ConfigurationError("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    return found


def valid_sections(model: type[Settings], content: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that are right in themselves, so that combinations are checked even when others are wrong."""
    sections: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        value = content.get(key, field.get_default())
        adapter = TypeAdapter[Any](field.rebuild_annotation())
        for way in (value, named(value)):
            with suppress(ValidationError):
                sections[key] = adapter.validate_python(way)
                break
    return sections


def named(value: object) -> object:
    """A list in which a bare name stands for the entry of that name."""
    return (
        [{"name": entry} if isinstance(entry, str) else entry for entry in value] if isinstance(value, list) else value
    )


def _line(details: ErrorDetails, root: type[Settings]) -> str:
    """One mistake in one line: path of the key, what was found, what is allowed."""
    path, model = _resolve(details["loc"], root)
    where = ".".join(path) or "the file"
    kind = details["type"]
    context = details.get("ctx", {})
    found = _shown(details["input"])
    if kind == "extra_forbidden":
        known = list(model.model_fields) if model else []
        return f"{where}: unknown key{nearest(path[-1], known)}; allowed are {', '.join(known)}"
    if kind == "missing":
        return f"{where}: missing; this key is required"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        tags = context.get("expected_tags", "")
        names = [name.strip("' ") for name in tags.split(",")] if tags else []
        tag = context.get("tag", "")
        key = context.get("discriminator", "'name'").strip("'")
        found = _shown(tag) if tag else found
        allowed = f"one of {tags}" if tags else f"a mapping with the key {key!r}"
        return f"{where}.{key}: found {found}{nearest(tag, names)}, allowed is {allowed}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"{where}: found {found}, allowed is {PATTERNS.get(pattern, f'text of the form {pattern}')}"
    if kind == "value_error":
        return f"{where}: {details['msg'].removeprefix('Value error, ')}"
    plain = next((words for start, words in ALLOWED.items() if kind.startswith(start)), None)
    allowed = plain or details["msg"].removeprefix("Input should be ")
    hint = nearest(str(details["input"]), re.findall(r"'([^']*)'", allowed)) if kind == "literal_error" else ""
    return f"{where}: found {found}{hint}, allowed is {allowed[0].lower()}{allowed[1:]}"


def nearest(found: str, known: Sequence[str]) -> str:
    """A hint at the known name that is most like the one found; empty where none is."""
    near = difflib.get_close_matches(found, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _resolve(location: tuple[int | str, ...], root: type[Settings]) -> tuple[list[str], type[Settings] | None]:
    """The path of a key as the user wrote it, and the section that holds its last part.

    Pydantic puts the tags of unions into its locations; they are no keys and are left out.
    """
    path: list[str] = []
    annotation: Any = root
    section: type[Settings] | None = None
    for part in location:
        members = _sections(annotation)
        if isinstance(part, int):
            path.append(str(part))
            annotation = next(iter(typing.get_args(_sequence(annotation))), None)
            continue
        tagged = [member for member in members if len(members) > 1 and part in _tags(member)]
        if tagged:
            annotation = tagged[0]
            continue
        section = next((member for member in members if part in member.model_fields), members[0] if members else None)
        if section is None and path and not members:
            continue
        path.append(str(part))
        annotation = section.model_fields[part].annotation if section and part in section.model_fields else None
    return path, section


def _sections(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, typing.Annotated}:
        return [section for argument in typing.get_args(annotation) for section in _sections(argument)]
    return []


def _sequence(annotation: Any) -> Any:
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, typing.Annotated}:
        return next((argument for argument in typing.get_args(annotation) if typing.get_args(argument)), annotation)
    return annotation


def _tags(section: type[Settings]) -> set[str]:
    return {
        value
        for field in section.model_fields.values()
        for value in typing.get_args(field.annotation)
        if typing.get_origin(field.annotation) is typing.Literal and isinstance(value, str)
    }


def _shown(value: object) -> str:
    return shortened(repr(value), 60)
