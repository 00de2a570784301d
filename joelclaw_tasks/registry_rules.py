"""The JSON form of the rules of admission; docs/controls.md shows them and the order in which they apply."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from joelclaw_tasks.core.rules import BATCH_MOST
from joelclaw_tasks.core.spec import (
    BatchSpec,
    CancelOnSpec,
    DebounceSpec,
    RulesSpec,
    SingletonSpec,
    WindowSpec,
)
from joelclaw_tasks.registry_model import DAY_S, Key, Name, Strict, refuse

_Seconds = Annotated[float, Field(ge=0.001, le=366 * DAY_S)]
_KEY = "JMESPath over the event; each value counts for itself. Without a key all events count together."


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


class WindowModel(Strict):
    """Of events with the same key, the first within the window goes on."""

    key: Key | None = Field(default=None, description=_KEY)
    window_s: _Seconds = Field(description="How long after the first event others are dropped, in seconds.")

    def to_spec(self) -> WindowSpec:
        """The same as a value of the core."""
        return WindowSpec(_ms(self.window_s), self.key)


class SingletonModel(Strict):
    """One job at a time, waiting or running."""

    key: Key | None = Field(default=None, description=_KEY)
    mode: Literal["skip", "cancel"] = Field(
        default="skip", description="skip: later events are dropped. cancel: they end the earlier job."
    )

    def to_spec(self) -> SingletonSpec:
        """The same as a value of the core."""
        return SingletonSpec(self.mode == "cancel", self.key)


class DebounceModel(Strict):
    """Runs once no event has come for a while, with the last event."""

    key: Key | None = Field(default=None, description=_KEY)
    wait_s: _Seconds = Field(description="Quiet time before the job runs, in seconds.")
    max_wait_s: _Seconds | None = Field(
        default=None, description="Longest wait after the first event, in seconds; default 10 * wait_s."
    )

    @model_validator(mode="after")
    def _max_holds_wait(self) -> DebounceModel:
        if self.max_wait_s is not None and self.max_wait_s < self.wait_s:
            raise refuse(
                f"max_wait_s ({self.max_wait_s:g}) is less than wait_s ({self.wait_s:g}); raise max_wait_s"
            )
        return self

    def to_spec(self) -> DebounceSpec:
        """The same as a value of the core."""
        most_ms = min(_ms(self.max_wait_s or 10 * self.wait_s), 366 * DAY_S * 1000)
        return DebounceSpec(_ms(self.wait_s), most_ms, self.key)


class BatchModel(Strict):
    """Events run together: the handler gets a list of them."""

    key: Key | None = Field(default=None, description=_KEY)
    size: int = Field(ge=1, le=BATCH_MOST, description="A batch starts when it has this many events.")
    max_wait_s: _Seconds = Field(description="Or when its first event has waited this long, in seconds.")

    def to_spec(self) -> BatchSpec:
        """The same as a value of the core."""
        return BatchSpec(self.size, _ms(self.max_wait_s), self.key)


class CancelOnModel(Strict):
    """An event that cancels the handler's jobs for which both expressions find the same value."""

    event: Name = Field(description="The name of the event that cancels.")
    match: Key = Field(description="JMESPath over the event that cancels, for example data.id.")
    of: Key | None = Field(
        default=None, description="JMESPath over the event of the job; default: the same as match."
    )

    def to_spec(self) -> CancelOnSpec:
        """The same as a value of the core."""
        return CancelOnSpec(self.event, self.match, self.of or self.match)


class RulesModel(Strict):
    """The rules of one handler."""

    expires_s: _Seconds | None = Field(
        default=None, description="A job that has not started by then is cancelled, in seconds."
    )
    delay_s: _Seconds | None = Field(default=None, description="A job waits at least this long, in seconds.")
    dedup: WindowModel | None = Field(default=None, description="Drop duplicates.")
    throttle: WindowModel | None = Field(default=None, description="The first wins.")
    singleton: SingletonModel | None = Field(default=None, description="One at a time.")
    debounce: DebounceModel | None = Field(default=None, description="The last wins.")
    batch: BatchModel | None = Field(default=None, description="Many at once.")
    cancel_on: list[CancelOnModel] = Field(default_factory=list, max_length=20)

    @model_validator(mode="after")
    def _agree(self) -> RulesModel:
        for sentence in contradictions(self):
            raise refuse(sentence)
        return self

    def rules(self) -> RulesSpec | None:
        """The same as a value of the core, None when there is no rule."""
        spec = RulesSpec(
            dedup=self.dedup.to_spec() if self.dedup else None,
            throttle=self.throttle.to_spec() if self.throttle else None,
            singleton=self.singleton.to_spec() if self.singleton else None,
            debounce=self.debounce.to_spec() if self.debounce else None,
            batch=self.batch.to_spec() if self.batch else None,
            cancel_on=tuple(one.to_spec() for one in self.cancel_on),
            expires_ms=_ms(self.expires_s) if self.expires_s else 0,
            delay_ms=_ms(self.delay_s) if self.delay_s else 0,
        )
        return None if spec == RulesSpec() else spec


def contradictions(rules: RulesModel) -> list[str]:
    """What cannot be meant together, one sentence each."""
    found = []
    if rules.batch and rules.singleton:
        found.append("batch and singleton contradict: a singleton never has a second event; remove one")
    if rules.batch and rules.debounce:
        found.append("batch and debounce contradict: one keeps every event, the other the last; remove one")
    gathering, least_s = rules.debounce or rules.batch, 0.0
    if gathering:
        least_s = rules.debounce.wait_s if rules.debounce else rules.batch.max_wait_s if rules.batch else 0.0
        what = "debounce" if rules.debounce else "batch"
        for name, window in (("dedup", rules.dedup), ("throttle", rules.throttle)):
            if window and window.key == gathering.key:
                found.append(
                    f"{name} and {what} have the same key: {name} would drop every event that {what} waits "
                    "for; give them different keys or remove one"
                )
    least_s = max(least_s, rules.delay_s or 0.0)
    if rules.expires_s is not None and rules.expires_s <= least_s:
        found.append(
            f"expires_s ({rules.expires_s:g}) is not more than the {least_s:g} s that a job waits at least: "
            "none could ever start; raise expires_s"
        )
    return found
