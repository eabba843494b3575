"""The base of everything a user writes in YAML."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of the configuration: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
