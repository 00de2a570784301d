"""From what an operator types to the pause gate that is meant."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joelclaw_tasks.cli.envelope import CommandFailed, NextAction
from joelclaw_tasks.settings import Settings

KINDS = ("family", "handler", "queue")
_EXPLICIT = "pause:"


def resolve_gate(typed: str, settings: Settings, snapshot: Callable[[], Mapping[str, Any]]) -> str:
    """The pause gate of a family, handler or queue name.

    Names come from the registry and from what is queued right now (plain Celery tasks have
    no registry entry): `snapshot` is the store's. An explicit `pause:<kind>/<name>` is taken as
    it stands, known or not, and nothing is read for it.
    Raises CommandFailed: QUEUE_GATE_UNKNOWN with the nearest known name, QUEUE_GATE_AMBIGUOUS.
    """
    if typed.startswith(_EXPLICIT):
        return _explicit(typed)
    known = _known_names(settings, snapshot())
    found = [f"pause:{kind}/{typed}" for kind in KINDS if typed in known[kind]]
    if len(found) == 1:
        return found[0]
    if found:
        raise _ambiguous(typed, found)
    raise _unknown(typed, {name for names in known.values() for name in names})


def gate_among(typed: str, gates: Sequence[str]) -> str | None:
    """The one of these gates that is meant; None when it is none of them.

    Raises CommandFailed: QUEUE_GATE_AMBIGUOUS.
    """
    found = [gate for gate in gates if gate == typed or gate.partition("/")[2] == typed]
    if len(found) > 1:
        raise _ambiguous(typed, found)
    return found[0] if found else None


def _explicit(typed: str) -> str:
    kind, slash, name = typed.removeprefix(_EXPLICIT).partition("/")
    if kind not in KINDS or not slash or not name:
        raise CommandFailed(
            f"{typed!r} is not a pause gate",
            code="QUEUE_GATE_UNKNOWN",
            fix="Write pause:family/<event>, pause:handler/<handler> or pause:queue/<queue>.",
        )
    return typed


def _known_names(settings: Settings, snapshot: Mapping[str, Any]) -> dict[str, set[str]]:
    from joelclaw_tasks.errors import RegistryError
    from joelclaw_tasks.registry import Registry

    families = {str(each["family"]) for each in snapshot.get("families", ())}
    known = {"family": families, "handler": set(), "queue": set(snapshot.get("queues", {}))}
    try:
        registry = Registry.load(settings.registry_dir)
    except RegistryError:
        # Holding back work must stay possible while somebody mends the registry.
        return known
    known["family"] |= set(registry.events)
    known["handler"] |= set(registry.handlers)
    known["queue"] |= registry.queues
    return known


def _ambiguous(typed: str, found: Sequence[str]) -> CommandFailed:
    return CommandFailed(
        f"{typed!r} may mean {' or '.join(found)}",
        code="QUEUE_GATE_AMBIGUOUS",
        fix=f"Name the gate in full, such as `{found[0]}`.",
        details={"gates": list(found)},
    )


def _unknown(typed: str, known: set[str]) -> CommandFailed:
    near = difflib.get_close_matches(typed[:120], sorted(known), n=1, cutoff=0.0)
    hint = f"; the nearest known name is {near[0]!r}" if near else ""
    return CommandFailed(
        f"no family, handler or queue is named {typed[:120]!r}{hint}",
        code="QUEUE_GATE_UNKNOWN",
        fix="`joelclaw registry list` prints the names; pause:family/<name> takes any name.",
        details={"nearest": near[0]} if near else None,
        next_actions=(NextAction("joelclaw registry list", "the known events and handlers"),),
    )
