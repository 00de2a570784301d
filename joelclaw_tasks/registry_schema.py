"""The JSON form of the registry files: pydantic models, their faults in plain words, their JSON Schema."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from joelclaw_tasks.core.spec import (
    ConcurrencySpec,
    EventSpec,
    HandlerSpec,
    RateSpec,
    ResourceSpec,
    RetrySpec,
    ShareSpec,
)
from joelclaw_tasks.registry_faults import ERROR_PATTERN, TARGET_PATTERN, Fault, plain_faults
from joelclaw_tasks.registry_model import DAY_S, Key, Name, Strict, Text, refuse
from joelclaw_tasks.registry_restate import RestateModel
from joelclaw_tasks.registry_rules import (
    BatchModel,
    CancelOnModel,
    DebounceModel,
    RulesModel,
    SingletonModel,
    WindowModel,
)

Limit = Annotated[int, Field(ge=1, le=1_000_000)]
Weight = Annotated[int, Field(ge=1, le=1_000)]
Seconds = Annotated[float, Field(gt=0, le=DAY_S)]
Priority = Literal["P0", "P1", "P2", "P3"]
ErrorName = Annotated[str, Field(pattern=ERROR_PATTERN, max_length=200)]


class ConcurrencyModel(Strict):
    """How many jobs may run at once: of the handler, or of each value of the key."""

    limit: Limit = Field(description="At most this many jobs at once.")
    key: Key | None = Field(
        default=None, description="JMESPath over the event; each value has a limit of its own."
    )
    weight: Limit = Field(default=1, description="How many places of the limit one job takes.")

    @model_validator(mode="after")
    def _one_job_fits(self) -> ConcurrencyModel:
        if self.weight > self.limit:
            raise refuse(
                f"weight ({self.weight}) is more than limit ({self.limit}): no job could ever start; "
                "lower weight or raise limit"
            )
        return self

    def to_spec(self) -> ConcurrencySpec:
        """The same as a value of the core."""
        return ConcurrencySpec(self.limit, self.key, self.weight)


class RateModel(Strict):
    """How many jobs may start in a time: of the handler, or of each value of the key."""

    limit: Limit = Field(description="At most this many starts in period_s, evenly spread.")
    period_s: float = Field(ge=0.001, le=366 * DAY_S, description="The time that limit is meant for.")
    burst: Limit = Field(default=1, description="How many may start at once after a quiet time.")
    key: Key | None = Field(
        default=None, description="JMESPath over the event; each value has a rate of its own."
    )

    @model_validator(mode="after")
    def _redis_can_follow(self) -> RateModel:
        if self.limit > 100_000 * self.period_s:
            raise refuse("is more than 100,000 starts a second, which no Redis can count; leave the rate out")
        return self

    def to_spec(self) -> RateSpec:
        """The same as a value of the core."""
        return RateSpec(self.limit, max(1, round(self.period_s * 1000)), self.burst, self.key)


class ShareModel(Strict):
    """Values of the key take turns, so that one with a million jobs does not hold up the others."""

    key: Key = Field(description="JMESPath over the event: whose turn it is, for example data.tenant.")
    weights: dict[str, Weight] = Field(
        default_factory=dict, max_length=10_000, description="Jobs a turn of single values of the key."
    )
    default_weight: Weight = Field(default=1, description="Jobs a turn of every other value.")

    def to_spec(self) -> ShareSpec:
        """The same as a value of the core."""
        return ShareSpec(self.key, tuple(sorted(self.weights.items())), self.default_weight)


class ResourceUseModel(Strict):
    """A resource of resources.json of which one job takes more than one place."""

    name: Name
    weight: Limit = Field(description="How many places of the resource one job takes.")


def _named(value: Any) -> Any:
    return {"name": value, "weight": 1} if isinstance(value, str) else value


Resource = Annotated[
    ResourceUseModel, BeforeValidator(_named, json_schema_input_type=Name | ResourceUseModel)
]


class RetriesModel(Strict):
    """Wait base_s * 2**n with full jitter between tries, never more than cap_s."""

    max: int = Field(default=3, ge=0, le=100, description="How often a failed job is tried again.")
    base_s: float = Field(default=2.0, gt=0, le=DAY_S, description="First wait, in seconds.")
    cap_s: float = Field(default=300.0, gt=0, le=7 * DAY_S, description="Longest wait, in seconds.")
    retry_on: list[ErrorName] = Field(
        default_factory=list,
        max_length=50,
        description="Retry only these exceptions, by name, and those derived from them; empty: all.",
    )

    @model_validator(mode="after")
    def _cap_holds_base(self) -> RetriesModel:
        if self.cap_s < self.base_s:
            raise refuse(f"cap_s ({self.cap_s:g}) is less than base_s ({self.base_s:g}); raise cap_s")
        return self

    def to_spec(self) -> RetrySpec:
        """The same as a value of the core."""
        return RetrySpec(self.max, self.base_s, self.cap_s, tuple(self.retry_on))


class ControlsModel(RulesModel):
    """Every control of a handler, or of a plain Celery task."""

    concurrency: list[ConcurrencyModel] = Field(default_factory=list, max_length=20)
    resources: list[Resource] = Field(
        default_factory=list,
        max_length=20,
        description="Shared resources of resources.json that a job holds while it runs.",
    )
    rate: list[RateModel] = Field(default_factory=list, max_length=20)
    share: ShareModel | None = None
    priority: Priority | None = Field(default=None, description="Instead of the event's, for this handler.")
    retries: RetriesModel = Field(default=RetriesModel())
    timeout_s: Seconds | None = Field(
        default=None, description="After this long a job's SoftTimeLimitExceeded is raised, in seconds."
    )
    hard_timeout_s: Seconds | None = Field(
        default=None, description="After this long its process is ended, in seconds; default timeout_s + 5."
    )

    @model_validator(mode="after")
    def _soft_before_hard(self) -> ControlsModel:
        soft_s, hard_s = self.timeout_s, self.hard_timeout_s
        if soft_s is not None and hard_s is not None and hard_s < soft_s:
            raise refuse(
                f"hard_timeout_s ({hard_s:g}) is less than timeout_s ({soft_s:g}); raise hard_timeout_s"
            )
        return self

    def spec_of(self, name: str, target: str, queue: str) -> HandlerSpec:
        """The same as a value of the core, for the handler of that name."""
        return HandlerSpec(
            name=name,
            type="task",
            target=target,
            queue=queue,
            concurrency=tuple(one.to_spec() for one in self.concurrency),
            resources=tuple(ResourceSpec(one.name, one.weight) for one in self.resources),
            rate=tuple(one.to_spec() for one in self.rate),
            share=None if self.share is None else self.share.to_spec(),
            retries=self.retries.to_spec(),
            timeout_s=self.timeout_s,
            hard_timeout_s=self.hard_timeout_s,
            priority=None if self.priority is None else int(self.priority[1]),
            rules=self.rules(),
        )


def _runs_by(kind: str, field: str) -> dict[str, Any]:
    """For editors: a handler of that type has that field, and not that of another type."""
    return {"properties": {"type": {"const": kind}}, "required": [field]}


class HandlerModel(ControlsModel):
    """One handler of the event."""

    name: Name = Field(description="Unique in the whole registry, for example content.validate.")
    type: Literal["task", "restate"] = Field(description="How the handler is run.")
    target: Annotated[str, Field(pattern=TARGET_PATTERN, max_length=300)] | None = Field(
        default=None,
        validate_default=True,
        description="Of type task: the Python function, as package.module:function.",
    )
    restate: RestateModel | None = Field(
        default=None, validate_default=True, description="Of type restate: what is invoked there."
    )
    queue: Name = Field(default="default", description="Celery queue: default (CPU, files) or io (network).")
    depends_on: list[Name] = Field(
        default_factory=list,
        max_length=20,
        description="Checks of health.json: while one is down, the observer may pause the family.",
    )

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_runs_by("task", "target"), _runs_by("restate", "restate")]}
    )

    @field_validator("target", "restate")
    @classmethod
    def _belongs_to_type(cls, value: Any, info: ValidationInfo) -> Any:
        kind, field = info.data.get("type"), info.field_name
        is_own = field == ("target" if kind == "task" else "restate")
        if kind is not None and is_own and value is None:
            raise refuse("is missing; add it")
        if kind is not None and not is_own and value is not None:
            raise refuse(f'does not belong to a handler of type "{kind}"; remove it')
        return value

    @model_validator(mode="after")
    def _one_call_for_each_event(self) -> HandlerModel:
        if self.type == "restate" and self.batch is not None:
            raise refuse("batch and restate contradict: Restate is called once for each event; remove batch")
        return self

    def to_spec(self) -> HandlerSpec:
        """The same as a value of the core."""
        depends_on = tuple(dict.fromkeys(self.depends_on))
        if self.restate is None:
            spec = self.spec_of(self.name, self.target or "", self.queue)
            return replace(spec, depends_on=depends_on)
        called = self.restate.to_spec()
        spec = self.spec_of(self.name, f"{called.service}/{called.handler}", self.queue)
        return replace(spec, type="restate", restate=called, depends_on=depends_on)


class EventModel(Strict):
    """One event name (a family) and who handles it."""

    schema_: str | None = Field(default=None, alias="$schema", description="For editors; not read.")
    name: Name = Field(description="The event name, for example content/updated; the file is named after it.")
    description: Text = Field(description="What happened when this event is emitted.")
    priority: Priority = Field(description="Default priority; P0 is the most urgent.")
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


class ResourceModel(Strict):
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
    ("handlers", "rate"): RateModel,
    ("handlers", "share"): ShareModel,
    ("handlers", "resources"): ResourceUseModel,
    ("handlers", "retries"): RetriesModel,
    ("handlers", "dedup"): WindowModel,
    ("handlers", "throttle"): WindowModel,
    ("handlers", "singleton"): SingletonModel,
    ("handlers", "debounce"): DebounceModel,
    ("handlers", "batch"): BatchModel,
    ("handlers", "cancel_on"): CancelOnModel,
    ("handlers", "restate"): RestateModel,
}
#: The same for the controls of one handler or task alone.
CONTROL_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): ControlsModel,
    **{place[1:]: model for place, model in _EVENT_MODELS.items() if len(place) > 1},
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
