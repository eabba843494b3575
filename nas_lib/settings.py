"""The base of everything a user writes in YAML."""

import ast
import inspect
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler


class Settings(BaseModel):
    """A section of the configuration: immutable, and unknown keys are refused.

    The string below a key is its description in the JSON schema. Pydantic would read these strings from the source at
    every start, a fifth of the time of one that trains nothing; here they are read when the schema is asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(core_schema)
        properties = handler.resolve_ref_schema(reference)["properties"]
        for key, text in _descriptions(cls).items():
            if key in properties:
                properties[key].setdefault("description", text)
        return reference


def _descriptions(cls: type) -> dict[str, str]:
    """Key -> the string below it in the source of the class and its bases."""
    found = {}
    for base in reversed(cls.__mro__[: cls.__mro__.index(Settings)]):
        body = ast.parse(inspect.getsource(base)).body[0].body  # type: ignore[attr-defined]
        for statement, below in pairwise(body):
            match statement, below:
                case ast.AnnAssign(target=ast.Name(id=key)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[key] = inspect.cleandoc(text)
    return found


def shortened(text: str, length: int) -> str:
    """A text as a message quotes it, cut to a length."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


class UserError(Exception):
    """Something the user has to put right. The message is one clear line, or one per mistake."""
