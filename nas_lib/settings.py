"""The base of everything a user writes in YAML."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of the configuration: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class UserError(Exception):
    """Something the user has to put right. The message is one clear line, or one per mistake."""
