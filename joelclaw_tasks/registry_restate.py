"""The JSON form of what a handler of type restate invokes; docs/restate.md shows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from joelclaw_tasks.core.spec import RestateSpec
from joelclaw_tasks.registry_faults import RESTATE_PATTERN
from joelclaw_tasks.registry_model import DAY_S, Key, Strict, refuse

_RestateName = Annotated[str, Field(pattern=RESTATE_PATTERN)]
_DEFAULT_DEADLINE_S = 3_600.0


class RestateModel(Strict):
    """The handler in Restate: of a service, with `key` of an object, or of a workflow."""

    service: _RestateName = Field(description="The service, object or workflow, as it is registered.")
    handler: _RestateName | None = Field(
        default=None, description="Its handler; of a workflow run unless it says otherwise."
    )
    key: Key | None = Field(
        default=None, description="JMESPath over the event: the key of the object, for example data.user."
    )
    workflow: bool = Field(
        default=False, description="True: a workflow, which runs once, under the id of the job as its key."
    )
    mode: Literal["send", "call"] = Field(
        default="send",
        description="send: done once Restate has taken it. call: done once it has ended, with its output.",
    )
    input: Literal["data", "event", "none"] = Field(
        default="data", description="What it is given: the data of the event, the whole event, or nothing."
    )
    delay_s: Annotated[float, Field(ge=0.001, le=366 * DAY_S)] | None = Field(
        default=None, description="Restate waits so long before it runs, in seconds."
    )
    deadline_s: Annotated[float, Field(ge=0.001, le=366 * DAY_S)] | None = Field(
        default=None,
        description="A call waits so long for the output, in seconds; then its job fails. Default 3600.",
    )

    @model_validator(mode="after")
    def _agree(self) -> RestateModel:
        if self.handler is None and not self.workflow:
            raise refuse('has no "handler"; add it')
        if self.key is not None and self.workflow:
            raise refuse(
                "key and workflow contradict: a workflow has the id of the job as its key; remove one"
            )
        if self.deadline_s is not None and self.mode == "send":
            raise refuse('deadline_s belongs to a call, and a send waits for nothing; set "mode": "call"')
        if self.delay_s is not None and self.mode == "call" and self.delay_s >= self._deadline_s:
            raise refuse(
                f"delay_s ({self.delay_s:g}) is not less than deadline_s ({self._deadline_s:g}): "
                "no call could end in time; raise deadline_s"
            )
        return self

    @property
    def _deadline_s(self) -> float:
        return _DEFAULT_DEADLINE_S if self.deadline_s is None else self.deadline_s

    def to_spec(self) -> RestateSpec:
        """The same as a value of the core."""
        return RestateSpec(
            service=self.service,
            handler=self.handler or "run",
            key=self.key,
            workflow=self.workflow,
            mode=self.mode,
            input=self.input,
            delay_ms=0 if self.delay_s is None else max(1, round(self.delay_s * 1000)),
            deadline_ms=max(1, round(self._deadline_s * 1000)),
        )
