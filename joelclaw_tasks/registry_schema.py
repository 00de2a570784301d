"""The JSON form of the registry files: pydantic models, their faults in plain words, their JSON Schema."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from joelclaw_tasks.core.spec import ConcurrencySpec, EventSpec, HandlerSpec, RetrySpec
from joelclaw_tasks.registry_faults import TARGET_PATTERN, Fault, plain_faults, shown
from joelclaw_tasks.registry_keys import KeyExpression

# No '=' and no control characters: gate ids are built from names.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,119}$"

_DAY_S = 86_400


def _refuse(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("registry", "{sentence}", {"sentence": sentence})


def _key_compiles(text: str) -> str:
    try:
        KeyExpression(text)
    except ValueError as error:
        raise _refuse(f"{shown(text)} {error}") from None
    return text


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=500)]
Key = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_key_compiles)]
Limit = Annotated[int, Field(ge=1, le=1_000_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ConcurrencyModel(_Strict):
    """How many jobs may run at once: of the handler, or of each value of the key."""

    limit: Limit = Field(description="At most this many jobs at once.")
    key: Key | None = Field(
        default=None, description="JMESPath over the event; each value has a limit of its own."
    )


class RetriesModel(_Strict):
    """Wait base_s * 2**n with full jitter between tries, never more than cap_s."""

    max: int = Field(default=3, ge=0, le=100, description="How often a failed job is tried again.")
    base_s: float = Field(default=2.0, gt=0, le=_DAY_S, description="First wait, in seconds.")
    cap_s: float = Field(default=300.0, gt=0, le=7 * _DAY_S, description="Longest wait, in seconds.")

    @model_validator(mode="after")
    def _cap_holds_base(self) -> RetriesModel:
        if self.cap_s < self.base_s:
            raise _refuse(f"cap_s ({self.cap_s:g}) is less than base_s ({self.base_s:g}); raise cap_s")
        return self


class HandlerModel(_Strict):
    """One handler of the event."""

    name: Name = Field(description="Unique in the whole registry, for example content.validate.")
    type: Literal["task"] = Field(description="How the handler is run.")
    target: Annotated[str, Field(pattern=TARGET_PATTERN, max_length=300)] = Field(
        description="The Python function, as package.module:function."
    )
    queue: Name = Field(default="default", description="Celery queue: default (CPU, files) or io (network).")
    concurrency: list[ConcurrencyModel] = Field(default_factory=list, max_length=20)
    resources: list[Name] = Field(
        default_factory=list,
        max_length=20,
        description="Shared resources of resources.json that a job holds.",
    )
    retries: RetriesModel = Field(default=RetriesModel())
    timeout_s: float | None = Field(
        default=None, gt=0, le=_DAY_S, description="Longest run of one job, in seconds."
    )

    def to_spec(self) -> HandlerSpec:
        """The same as a value of the core."""
        return HandlerSpec(
            name=self.name,
            type=self.type,
            target=self.target,
            queue=self.queue,
            concurrency=tuple(ConcurrencySpec(one.limit, one.key) for one in self.concurrency),
            resources=tuple(self.resources),
            retries=RetrySpec(self.retries.max, self.retries.base_s, self.retries.cap_s),
            timeout_s=self.timeout_s,
        )


class EventModel(_Strict):
    """One event name (a family) and who handles it."""

    schema_: str | None = Field(default=None, alias="$schema", description="For editors; not read.")
    name: Name = Field(description="The event name, for example content/updated; the file is named after it.")
    description: Text = Field(description="What happened when this event is emitted.")
    priority: Literal["P0", "P1", "P2", "P3"] = Field(description="Default priority; P0 is the most urgent.")
    protected: bool = Field(default=False, description="True: no model may touch this family.")
    handlers: list[HandlerModel] = Field(min_length=1, max_length=50)

    def to_spec(self) -> EventSpec:
        """The same as a value of the core."""
        return EventSpec(
            name=self.name,
            description=self.description,
            priority=int(self.priority[1]),
            handlers=tuple(handler.to_spec() for handler in self.handlers),
            protected=self.protected,
        )


class ResourceModel(_Strict):
    """A named thing that handlers share, such as a NAS."""

    limit: Limit
    description: Text


_EVENT: TypeAdapter[EventModel] = TypeAdapter(EventModel)
_RESOURCES: TypeAdapter[dict[Name, ResourceModel]] = TypeAdapter(dict[Name, ResourceModel])
#: Where in a document (list positions left out) which model rules.
_EVENT_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): EventModel,
    ("handlers",): HandlerModel,
    ("handlers", "concurrency"): ConcurrencyModel,
    ("handlers", "retries"): RetriesModel,
}


def read_event(document: Any) -> tuple[EventSpec | None, list[Fault]]:
    """Validate the content of one event file: its spec, or None and every fault."""
    try:
        return _EVENT.validate_python(document).to_spec(), []
    except ValidationError as error:
        return None, plain_faults(error, document, _EVENT_MODELS.get)


def read_resources(document: Any) -> tuple[dict[str, int], list[Fault]]:
    """Validate the content of resources.json: limits by name, and every fault."""
    try:
        return {
            name: one.limit for name, one in _RESOURCES.validate_python(document, strict=True).items()
        }, []
    except ValidationError as error:
        return {}, plain_faults(error, document, lambda place: ResourceModel if place else None)


def event_schema() -> str:
    """The text of registry/event.schema.json, generated from the models."""
    schema = EventModel.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Registry event"}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
