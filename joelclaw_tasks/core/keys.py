"""Every Redis key, in one place. `write_keys` writes the same table into each Lua script.

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
    "parked": "parked:%s",  # zset of a spot, "<gate>[\t<weight>]\n<queue>": lane -> rank of its first job
    "parked_gates": "parked_gates",  # zset, all scores 0: spots with parked lanes, by name
    "pauses": "pauses",  # hash: gate -> JSON record
    "limits": "limits",  # hash: gate -> most places at once
    "running": "running:%s",  # zset of a limit gate: job id ("<job id>\t<n>": its nth place) -> claimed_at
    "rates": "rates",  # hash: gate -> "<limit> <period_ms> <burst>"
    "tat": "tat:%s",  # string of a rate gate: when its next job is expected (GCRA); goes by itself
    "turns": "turns:%s",  # string of a share: "<served_at> <jobs left of its turn>"; goes by itself
    "registered": "registered:%s",  # set of "<limit|rate>|<actor>": gates to which code has given one
    "timers": "timers",  # zset: kind|name -> due_at
    "seen_at": "seen_at",  # string: when timers were last looked at, give or take a sixth of a lease
    "leases": "leases:%s",  # zset of a holder: job id -> claimed_at
    "holders": "holders",  # hash: holder -> JSON: where it runs, its Redis client id
    "dead": "dead",  # zset: job id -> discarded_at
    "dead_jobs": "dead_jobs:%s",  # zset of a failure signature: job id -> discarded_at
    "dead_groups": "dead_groups",  # hash: failure signature -> JSON: first_at, last_at, place, error
    "orphans": "orphans",  # list: jobs discarded because their worker died, whose callers wait for a result
    "counts": "counts",  # hash: "<queue>\n<family>|<priority>|<state>" -> jobs
    "queues": "queues",  # set: names of all queues
    "wake": "wake:%s",  # list of a queue: at most one wake token
    "inbox": "inbox:%s",  # list of a queue: messages of stock producers, on their way in
    "rule": "rule:%s",  # string of "<rule>|<key>": the job that it names (of a window: "<at> <job>")
    "topic": "topic:%s",  # set of what may cancel jobs: job ids
    "elements": "elements:%s",  # hash of a batch that still gathers: element id -> "<number>\n<payload>"
    "alias": "alias:%s",  # string of a call that was merged into a job: the job's id
    "asked": "asked:%s",  # zset of a holder: delivery tag -> when its job was asked to stop
    "controls": "controls",  # hash: "<verb>|<target>" -> JSON of the act that is in force
    "acts": "acts",  # hash: id of an act -> its JSON, the newest 1,000; last -> how many there were
    "touched": "touched:%s",  # zset of an act: job id -> what the job was, for undo
    "shelved": "shelved:%s",  # hash: a job that was cancelled, for undo, as it was
    "priorities": "priorities",  # hash: family -> "<slack_ms>|<priority>" of jobs admitted from now on
    "triage": "triage",  # zset: jobs that nobody scores yet -> admitted_at, the latest 10,000
    "spending": "spending:%s",  # hash of a day (UTC): "<account>|<what>[|<of>]" -> nano-USD, or how many
    "order": "order:%s",  # hash: what was ordered elsewhere and comes later (core/orders.py); 30 days
    "orders": "orders",  # zset: ids that others gave to our orders -> when they were learned
    "drains": "drains",  # hash: pause gate -> admitted_at up to which its jobs pass, or "job <id>"
    "registry": "registry",  # hash: last -> number of the newest version; "<number>" -> JSON; the newest 50
    "digests": "digests",  # hash: since -> epoch ms; "<window>" -> JSON: the newest 1,000 that were made
    "digest_families": "digest_families",  # set: families that a digest has told of
    "beat": "beat",  # hash: looked_at; fault; "<fired|missed|pause>|<entry>" -> JSON
    "observer": "observer",  # hash: number of the newest pass of the observer, when it began
    "passes": "passes",  # stream: what the observer saw, proposed and did; the newest 2,000 records
    "diagnosis": "diagnosis:%s",  # hash of one: record, verdict (both JSON); goes by itself after 90 days
    "diagnosed": "diagnosed:%s",  # string of a failure: "<id of its diagnosis> <until>": not again before
    "diagnoses": "diagnoses",  # hash: last -> how many there were; looked_until -> of failing
    "failing": "failing",  # zset: what failed within two hours, as JSON -> at; goes by itself
    "suspects": "suspects",  # zset: what somebody wants diagnosed -> since when
    "notify_cause": "notify_cause:%s",  # hash of a cause: since when it is open, what was told of it and when
    "notify_mutes": "notify_mutes",  # hash: cause -> "<until>|<JSON: who stopped it, and why>"
    "notify_held": "notify_held",  # zset: causes of which something was held back -> when it goes out
    "notify_held_notes": "notify_held_notes",  # hash: cause -> "<how many>|<first_at>|<level>|<the newest>"
    "notify_outbox": "notify_outbox:%s",  # zset of a sink: ids of what it has not taken yet -> told_at
    "notify_notes": "notify_notes:%s",  # hash of a sink: id -> the notification as JSON
    "notify_sink": "notify_sink:%s",  # hash of a sink: who delivers to it now, until when it is away, and why
    "notify_sent": "notify_sent:%s",  # zset of a sink: ids of what it took within the last hour -> sent_at
    "notify_log": "notify_log",  # stream: what became of each notification; the newest 1,000
    "notify_buttons": "notify_buttons:%s",  # string of a notification with buttons: the notification as JSON
    "notify_button": "notify_button:%s",  # string of a button that was pressed: by whom, and what came of it
    "notify_tasks": "notify_tasks",  # hash: cause -> id of its open task in Todoist
    "health_check": "health_check:%s",  # hash of a check: its state, since when, and what the last look found
    "health_turns": "health_turns:%s",  # zset of a check: "<at>|<state>|<why>" -> at; 30 days
    "health_hours": "health_hours:%s",  # hash of a check: hour -> sums of its looks (core/health.py); 30 days
    "format": "format",  # string: see core/format.py
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


def write_keys(script: str) -> str:
    """A script with every `<name>_key` written out as an expression: `lane_key(x)`, `counts_key`.

    Written out, a key costs a script nothing until it is needed; thirty functions that build keys cost
    each call more than the commands that it runs.
    """

    def expression(found: re.Match[str]) -> str:
        name, call = found.group(1), found.group(2)
        if name not in KEYS:
            return found.group(0)
        head, placeholder, _ = KEYS[name].partition("%s")
        if bool(placeholder) != bool(call):
            raise ValueError(f"{name}_key {'needs' if placeholder else 'takes no'} a name")
        return f'(prefix .. "{head}" .. ' if call else f'(prefix .. "{head}")'

    return re.sub(r"\b([a-z_]+)_key\b(\()?", expression, script)
