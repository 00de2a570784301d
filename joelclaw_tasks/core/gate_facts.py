"""Gate facts: for each kind of gate, since when it is shut and what would open it. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from joelclaw_tasks.core.keys import Keys


@dataclass(frozen=True, slots=True)
class GateFacts:
    """What is known of a shut gate. `opens_at` (epoch ms): when it opens by itself, if it does."""

    gate: str
    kind: str
    since: int | None
    opens_when: str
    opens_at: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "gate": self.gate,
            "kind": self.kind,
            "since": self.since,
            "opens_when": self.opens_when,
            "opens_at": self.opens_at,
            **self.more,
        }


def gate_facts(client: Any, keys: Keys, gate: str) -> GateFacts:
    """Why a gate is shut. `client` answers bytes."""
    return KINDS.get(gate.partition(":")[0], _unknown)(client, keys, gate)


def _pause(client: Any, keys: Keys, gate: str) -> GateFacts:
    record = json.loads(client.hget(keys.pauses, gate) or b"{}")
    actor, reason = record.get("actor") or "", record.get("reason") or ""
    expires_at = record.get("expires_at")
    opens = "somebody resumes it" if expires_at is None else "its time is over, or somebody resumes it"
    return GateFacts(
        gate,
        "pause",
        record.get("paused_at"),
        opens,
        None if expires_at is None else int(expires_at),
        {"actor": actor, "reason": reason},
    )


def _limit(client: Any, keys: Keys, gate: str) -> GateFacts:
    base = gate.partition("=")[0]
    pipe = client.pipeline(transaction=False)
    pipe.hmget(keys.limits, gate, base)
    pipe.zcard(keys.running(gate))
    pipe.zrange(keys.running(gate), -1, -1, withscores=True)
    limits, running, newest = pipe.execute()
    own = limits[0] if limits[0] is not None else limits[1]
    limit = None if own is None else int(own)
    if limit == 0:
        opens = "somebody raises its limit, which is 0"
    elif limit is not None and running > limit:
        opens = f"{running - limit + 1} of the {running} jobs that run under it end"
    else:
        opens = (
            f"one of the {running} jobs that run under it ends"
            if running != 1
            else "the job that runs under it ends"
        )
    # It is shut since its last place was taken.
    since = int(newest[0][1]) if newest else None
    return GateFacts(gate, "limit", since, opens, None, {"limit": limit, "running": running})


def _unknown(client: Any, keys: Keys, gate: str) -> GateFacts:  # noqa: ARG001 - one signature for all kinds
    return GateFacts(
        gate, gate.partition(":")[0], None, "a worker of a release that knows this kind takes it"
    )


#: Kind of gate -> how it tells why it is shut.
KINDS: dict[str, Callable[[Any, Keys, str], GateFacts]] = {"pause": _pause, "limit": _limit}
