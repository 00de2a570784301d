"""The rules of admission of one job: the registry's words, with the keys of its event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from joelclaw_tasks.core.rules import Batch, Debounce, Rules, Singleton, Window
from joelclaw_tasks.core.spec import HandlerSpec, RulesSpec, WindowSpec

#: What a key expression finds in the event of the job; None: nothing, and the rule does not apply.
ValueOf = Callable[[str], str | None]


def rules_of(handler: HandlerSpec, spec: RulesSpec, value_of: ValueOf, now_ms: int) -> Rules:
    """The rules with complete keys. Raises InvalidEvent for a key that cannot be one."""

    def key_of(expression: str | None) -> str | None:
        """The handler's name, and the value; None when the expression finds nothing."""
        if expression is None:
            return handler.name
        value = value_of(expression)
        return None if value is None else f"{handler.name}={value}"

    def window(spec: WindowSpec | None) -> Window | None:
        key = key_of(spec.key) if spec else None
        return Window(key, spec.window_ms) if spec and key else None

    rules = Rules(
        dedup=window(spec.dedup),
        throttle=window(spec.throttle),
        topics=tuple(
            topic_of(handler.name, number, value)
            for number, one in enumerate(spec.cancel_on)
            if (value := value_of(one.of)) is not None
        ),
        expires_at=now_ms + spec.expires_ms if spec.expires_ms else 0,
    )
    if spec.singleton and (key := key_of(spec.singleton.key)):
        rules = replace(rules, singleton=Singleton(key, spec.singleton.cancel))
    if spec.debounce and (key := key_of(spec.debounce.key)):
        rules = replace(rules, debounce=Debounce(key, spec.debounce.wait_ms, spec.debounce.max_wait_ms))
    if spec.batch and (key := key_of(spec.batch.key)):
        rules = replace(rules, batch=Batch(key, spec.batch.size, spec.batch.max_wait_ms))
    return rules


def topic_of(handler: str, number: int, value: str) -> str:
    """Under which name a job waits for the event of its handler's `cancel_on[number]`."""
    return f"{handler}#{number}={value}"
