"""What the models of the registry have in common: names, texts, key expressions, and how they refuse."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from joelclaw_tasks.registry_faults import shown
from joelclaw_tasks.registry_keys import EVENT_FIELDS, KeyExpression

# No '=' and no control characters: gate ids are built from names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$"

DAY_S = 86_400


def refuse(sentence: str) -> PydanticCustomError:
    """What a validator raises: the sentence for the person who wrote the file."""
    return PydanticCustomError("registry", "{sentence}", {"sentence": sentence})


def _key_compiles(text: str, info: ValidationInfo) -> str:
    try:
        KeyExpression(text, (info.context or {}).get("key_fields", EVENT_FIELDS))
    except ValueError as error:
        raise refuse(f"{shown(text)} {error}") from None
    return text


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Key = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_key_compiles)]


class Strict(BaseModel):
    """Knows all of its fields, and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
