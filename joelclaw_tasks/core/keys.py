"""Every Redis key, in one place. `scripts.py` writes the same table into each Lua script.

All keys share one prefix with one hash tag, so that a script may touch them together. `%s`
stands for what the key belongs to.
"""

from __future__ import annotations

import re

KEYS: dict[str, str] = {
    "job": "job:%s",  # hash: one job (see shared/job.lua for its fields)
    "lane": "lane:%s",  # zset: job id -> rank
    "lane_meta": "lane_meta:%s",  # hash: queue, family, handler, gates, parked, parked_at
    "lanes": "lanes:%s",  # set: all lanes of a queue
    "ready": "ready:%s",  # zset of a queue: lane -> rank of its first job
    "parked": "parked:%s",  # zset of a spot, "<gate>\n<queue>": lane -> rank of its first job
    "parked_gates": "parked_gates",  # zset, all scores 0: spots with parked lanes, by name
    "pauses": "pauses",  # hash: gate -> JSON record
    "limits": "limits",  # hash: gate -> most jobs at once
    "running": "running:%s",  # zset of a limit gate: job id -> claimed_at
    "timers": "timers",  # zset: kind|name -> due_at
    "seen_at": "seen_at",  # string: when timers were last looked at
    "leases": "leases:%s",  # zset of a holder: job id -> claimed_at
    "holders": "holders",  # hash: holder -> JSON: where it runs, its Redis client id
    "dead": "dead",  # zset: job id -> discarded_at
    "counts": "counts",  # hash: "<queue>\n<family>|<priority>|<state>" -> jobs
    "queues": "queues",  # set: names of all queues
    "wake": "wake:%s",  # list of a queue: at most one wake token
    "inbox": "inbox:%s",  # list of a queue: messages of stock producers, on their way in
    "transitions": "transitions",  # stream: one entry per verb
}


class Keys:
    """Builds key names under one prefix, for example `Keys("{jc}:").job("42")`."""

    def __init__(self, prefix: str) -> None:
        if not re.search("{[^{}]+}", prefix):
            raise ValueError(f"the key prefix needs a hash tag, for example '{{jc}}:', not {prefix!r}")
        self.prefix = prefix

    def __getattr__(self, name: str) -> _Key:
        try:
            return _Key(self.prefix + KEYS[name])
        except KeyError:
            raise AttributeError(name) from None


class _Key(str):
    """A key that is complete as it is, or becomes one when called with a name."""

    __slots__ = ()

    def __call__(self, name: str) -> str:
        head, _, tail = self.partition("%s")
        return head + name + tail


def lua_bindings(used_in: str) -> str:
    """Lua that defines `<name>_key` for each key that a script uses: a string, or a function of a name."""
    lines = ["local prefix = KEYS[1]"]
    for name, template in KEYS.items():
        if f"{name}_key" not in used_in:
            continue
        head, placeholder, _ = template.partition("%s")
        if placeholder:
            lines.append(f'local function {name}_key(name) return prefix .. "{head}" .. name end')
        else:
            lines.append(f'local {name}_key = prefix .. "{head}"')
    return "\n".join(lines)
