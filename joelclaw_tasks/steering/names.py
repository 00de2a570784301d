"""Names: from what a person calls a gate, a family or an event to what the core calls it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from joelclaw_tasks.admission import job_id_of, limits_of, rates_of
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import RegistryError, UnknownTarget
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

KINDS = ("family", "handler", "queue")


class Names:
    """What is known by name: in the registry, and in the queue right now. Read when first asked.

    Plain Celery tasks have no registry entry; a registry with faults counts as empty, for holding back
    work must stay possible while somebody mends it.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    @cached_property
    def registry(self) -> Registry | None:
        """The registry, None while it has faults."""
        try:
            return Registry.load(self._settings.registry_dir)
        except RegistryError:
            return None

    @cached_property
    def snapshot(self) -> Mapping[str, Any]:
        """The depth of everything."""
        return self._store.snapshot()

    @cached_property
    def known(self) -> dict[str, set[str]]:
        """Names by kind."""
        known: dict[str, set[str]] = {
            "family": {str(each["family"]) for each in self.snapshot["families"]},
            "handler": set(),
            "queue": set(self.snapshot["queues"]),
        }
        if self.registry is not None:
            known["family"] |= set(self.registry.events)
            known["handler"] |= set(self.registry.handlers)
            known["queue"] |= self.registry.queues
        return known

    def pause_gate(self, typed: str) -> str:
        """The pause gate of a family, handler or queue; `pause:<kind>/<name>` is taken as it stands.

        Raises UnknownTarget: QUEUE_GATE_UNKNOWN with the nearest known name, QUEUE_GATE_AMBIGUOUS.
        """
        if typed.startswith("pause:"):
            kind, slash, name = typed.removeprefix("pause:").partition("/")
            if kind not in KINDS or not slash or not name:
                fix = "Write pause:family/<event>, pause:handler/<handler> or pause:queue/<queue>."
                raise UnknownTarget(f"{typed!r:.200} is not a pause gate", code="QUEUE_GATE_UNKNOWN", fix=fix)
            return typed
        found = [f"pause:{each}" for each in self.scopes(typed)]
        if len(found) == 1:
            return found[0]
        if found:
            raise _ambiguous(typed, found)
        raise _unknown(
            "no family, handler or queue", typed, {name for names in self.known.values() for name in names},
            "`joelclaw registry list` prints the names; pause:family/<name> takes any name.",
        )  # fmt: skip

    def scopes(self, typed: str) -> list[str]:
        """Every `<kind>/<name>` that a text may mean: a name, or one with its kind before it."""
        kind, slash, name = typed.partition("/")
        if slash and kind in KINDS and name in self.known[kind]:
            return [typed]
        return [f"{kind}/{typed}" for kind in KINDS if typed in self.known[kind]]

    def bound_gate(self, verb: str, typed: str) -> str:
        """The `limit:` or `rate:` gate that is meant: its name in full, or what follows its kind.

        A gate of one key, such as `limit:key/h=a`, is known when the gate of all keys is.
        Raises UnknownTarget as `pause_gate`.
        """
        values = self._store.keys.limits if verb == "limit" else self._store.keys.rates
        known = {gate.decode() for gate in self._store.ask(lambda: self._store.client.hkeys(values))}
        if self.registry is not None:
            known |= set(limits_of(self.registry) if verb == "limit" else rates_of(self.registry))
        base, equals, value = typed.partition("=")
        base = base.removeprefix(f"{verb}:")
        found = sorted(
            gate
            for gate in known
            if "=" not in gate and base in {gate.removeprefix(f"{verb}:"), gate.partition("/")[2]}
        )
        if len(found) == 1:
            return str(found[0] + equals + value)
        if found:
            raise _ambiguous(typed, found)
        raise _unknown(
            f"no {verb} gate", typed, known,
            "`joelclaw queue depth --json` lists the gates, and the registry declares them.",
        )  # fmt: skip

    def jobs_of_event(self, event_id: str) -> list[str]:
        """The ids that an event's jobs would have."""
        handlers = self.registry.handlers if self.registry is not None else ()
        return [job_id_of(event_id, handler) for handler in handlers]


def gate_among(typed: str, gates: Iterable[str]) -> str | None:
    """The one of these gates that is meant; None when it is none of them. Raises UnknownTarget."""
    found = [gate for gate in gates if gate == typed or gate.partition("/")[2] == typed]
    if len(found) > 1:
        raise _ambiguous(typed, found)
    return found[0] if found else None


def unknown_target(typed: str, names: Names) -> UnknownTarget:
    """That a text is no job, no event and no name."""
    known = {name for kind in names.known.values() for name in kind}
    return _unknown(
        "no job, event, family, handler or queue", typed, known, UnknownTarget.fix, UnknownTarget.code
    )


def _ambiguous(typed: str, found: list[str]) -> UnknownTarget:
    return UnknownTarget(
        f"{typed!r:.200} may mean {' or '.join(found)}",
        code="QUEUE_GATE_AMBIGUOUS",
        fix=f"Name it in full, such as `{found[0]}`.",
        gates=found,
    )


def _unknown(
    what: str, typed: str, known: set[str], fix: str, code: str = "QUEUE_GATE_UNKNOWN"
) -> UnknownTarget:
    near = difflib.get_close_matches(typed[:120], sorted(known), n=1, cutoff=0.0)
    hint = f"; the nearest known name is {near[0]!r}" if near else ""
    details = {"nearest": near[0]} if near else {}
    return UnknownTarget(f"{what} is named {typed[:120]!r}{hint}", code=code, fix=fix, **details)
