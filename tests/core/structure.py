"""What must hold in Redis after every act, whatever the act was. Reads all keys of the core."""

from __future__ import annotations

from collections import Counter

import redis

from joelclaw_tasks.core.keys import Keys

#: Keys that may stay when nothing waits and nothing runs.
PERMANENT = {
    "counts", "queues", "limits", "seen_at", "transitions", "holders", "pauses",
    "dead", "dead_groups", "orphans", "rates",
    "controls", "acts", "priorities", "drains",
}  # fmt: skip
_KEPT = {"completed", "cancelled"}


class Structure:
    """One reading of all keys. `faults()` lists what contradicts the design; empty is right."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        """`client` answers text."""
        self._client = client
        self._prefix = keys.prefix
        names = [name.removeprefix(keys.prefix) for name in client.scan_iter(keys.prefix + "*", 1000)]
        self.keys = set(names)
        pipe = client.pipeline(transaction=False)
        named: dict[str, list[str]] = {}
        for name in sorted(names):
            kind, colon, rest = name.partition(":")
            if colon:
                named.setdefault(kind, []).append(rest)
        for kind in ("job", "lane_meta"):
            for name in named.get(kind, ()):
                pipe.hgetall(f"{keys.prefix}{kind}:{name}")
        hashes = pipe.execute()
        jobs, metas = named.get("job", []), named.get("lane_meta", [])
        self.jobs = dict(zip(jobs, hashes, strict=False))
        self.metas = dict(zip(metas, hashes[len(jobs) :], strict=True))
        zsets = [
            (kind, name)
            for kind in ("lane", "ready", "parked", "running", "leases", "dead_jobs", "touched")
            for name in named.get(kind, ())
        ]
        for kind, name in zsets:
            pipe.zrange(f"{keys.prefix}{kind}:{name}", 0, -1, withscores=True)
        found = pipe.execute()
        self.zsets: dict[str, dict[str, dict[str, float]]] = {}
        for (kind, name), members in zip(zsets, found, strict=True):
            self.zsets.setdefault(kind, {})[name] = dict(members)
        self.lanes = {name: client.smembers(keys.lanes(name)) for name in named.get("lanes", ())}
        self.wakes = {name: client.llen(keys.wake(name)) for name in named.get("wake", ())}
        self.timers = dict(client.zrange(keys.timers, 0, -1, withscores=True))
        self.dead = set(client.zrange(keys.dead, 0, -1))
        self.dead_groups = set(client.hkeys(keys.dead_groups))
        self.parked_gates = set(client.zrange(keys.parked_gates, 0, -1))
        self.controls = client.hgetall(keys.controls)
        self.pauses = set(client.hkeys(keys.pauses))
        self.limits = {gate: int(most) for gate, most in client.hgetall(keys.limits).items()}
        self.counts = {field: int(n) for field, n in client.hgetall(keys.counts).items()}
        self.queues = client.smembers(keys.queues)

    def of(self, kind: str) -> dict[str, dict[str, float]]:
        """All sorted sets of a kind, by name."""
        return self.zsets.get(kind, {})

    def room(self, gate: str) -> tuple[float, float]:
        """How many more places a gate has, and how many at most."""
        if gate.startswith("pause:"):
            return (0, 0) if gate in self.pauses else (float("inf"), float("inf"))
        limit = self.limits.get(gate, self.limits.get(gate.partition("=")[0]))
        if limit is None and gate.startswith("limit:singleton/"):
            limit = 1
        if limit is None:
            return float("inf"), float("inf")
        return limit - len(self.of("running").get(gate, ())), limit

    def faults(self) -> list[str]:
        """Every contradiction."""
        return [
            *self._lane_faults(), *self._job_faults(), *self._gate_faults(), *self._count_faults(),
            *self._dead_faults(), *self._held_faults(),
        ]  # fmt: skip

    def _lane_faults(self) -> list[str]:
        faults = []
        listed = {lane for lanes in self.lanes.values() for lane in lanes}
        if not (listed == set(self.of("lane")) == set(self.metas)):
            faults.append(
                f"lanes differ: {listed} listed, {set(self.of('lane'))} with jobs, {set(self.metas)} known"
            )
            return faults
        for lane, meta in self.metas.items():
            places = [f"ready:{q}" for q, lanes in self.of("ready").items() if lane in lanes]
            places += [f"parked:{spot}" for spot, lanes in self.of("parked").items() if lane in lanes]
            queue, parked = meta["queue"], meta["parked"]
            due = f"parked:{parked}\n{queue}" if parked else f"ready:{queue}"
            if places != [due]:
                faults.append(f"lane {lane} is in {places}, not in {due}")
                continue
            kind, _, name = due.partition(":")
            head = min(self.of("lane")[lane].values())
            score = self.of(kind)[name][lane]  # of a share: at least, for it may have had its turn
            if score < head or (score > head and not meta["gates"].startswith("share:")):
                faults.append(f"lane {lane} has rank {self.of(kind)[name][lane]} but its first job {head}")
            if lane not in self.lanes[queue]:
                faults.append(f"lane {lane} is not listed under its queue {queue}")
        for place in ("ready", "parked"):
            for name, lanes in self.of(place).items():
                faults += [
                    f"{place}:{name} holds the unknown lane {one}" for one in lanes if one not in self.metas
                ]
        return faults

    def _job_faults(self) -> list[str]:
        faults = []
        in_lanes = {job: (lane, rank) for lane, jobs in self.of("lane").items() for job, rank in jobs.items()}
        leased = {job: holder for holder, jobs in self.of("leases").items() for job in jobs}
        timed = {name.removeprefix("job|") for name in self.timers if name.startswith("job|")}
        for job, holds in (("in lanes", in_lanes), ("leased", leased), ("timed", timed), ("dead", self.dead)):
            faults += [f"{one} is {job} but has no hash" for one in holds if one not in self.jobs]
        for name, job in self.jobs.items():
            state = job["state"]
            if state not in _KEPT and job["queue"] not in self.queues:
                faults.append(f"{name}: its queue {job['queue']} is not known")
            if job.get("held_for") == "triage":
                state = "held for a score"
            here = (name in in_lanes, name in leased, name in timed, name in self.dead)
            there = {
                "available": (True, False, False, False),
                "executing": (False, True, False, False),
                "scheduled": (False, False, True, False),
                "held for a score": (False, False, True, False),
                "retryable": (False, False, True, False),
                "discarded": (False, False, False, True),
            }.get(state, (False, False, False, False))
            if here != there:
                faults.append(f"{name} is {state} but (lane, lease, timer, dead) = {here}")
            if state == "available" and in_lanes.get(name) != (job["lane"], float(job["rank"])):
                faults.append(
                    f"{name} should be at {job['lane']}, {job['rank']}; it is at {in_lanes.get(name)}"
                )
            if state == "executing" and leased.get(name) != job["holder"]:
                faults.append(f"{name} is leased to {leased.get(name)}, not {job['holder']}")
            if state in _KEPT and "payload" in job:
                faults.append(f"{name} is {state} and still has its payload")
        return faults

    def _gate_faults(self) -> list[str]:
        faults = []
        takers: dict[str, set[str]] = {}
        for name, job in self.jobs.items():
            if job["state"] == "executing":
                for line in filter(None, job["gates"].split("\n")):
                    gate, weight = split_line(line)
                    more = {f"{name}\t{place}" for place in range(2, weight + 1)}
                    takers.setdefault(gate, set()).update({name} | more)
        takers = {gate: jobs for gate, jobs in takers.items() if gate.startswith("limit:")}
        running = {gate: set(jobs) for gate, jobs in self.of("running").items()}
        if running != takers:
            faults.append(f"running {running}, but executing jobs hold {takers}")
        if self.parked_gates != set(self.of("parked")):
            faults.append(f"parked_gates {self.parked_gates}, but parked {set(self.of('parked'))}")
        for queue, ready in self.of("ready").items():
            if ready and not self.wakes.get(queue):
                faults.append(f"queue {queue} has ready lanes and no wake token")
        for gate, queue in {
            (split_line(s.partition("\n")[0])[0], s.partition("\n")[2]) for s in self.parked_gates
        }:
            if not gate.startswith("rate:") and not self._next_fits(gate, queue):
                continue
            on_their_way = [
                lane
                for lane in self.of("ready").get(queue, ())
                if gate in [split_line(line)[0] for line in self.metas[lane]["gates"].split("\n")]
            ]
            base = gate.partition("=")[0]
            reopening = any(timer.startswith(f"reopen|{base}\n") for timer in self.timers)
            timed = {f"unpark|{gate}", f"rate|{gate}"} & set(self.timers)
            if not on_their_way and not timed and not reopening:
                faults.append(
                    f"lanes of queue {queue} wait at the open gate {gate} and nothing will bring them back"
                )
        faults += [f"wake:{queue} holds {n} tokens" for queue, n in self.wakes.items() if n > 1]
        return faults

    def _dead_faults(self) -> list[str]:
        actual: dict[str, set[str]] = {}
        for name, job in self.jobs.items():
            if job["state"] == "discarded":
                actual.setdefault(job["signature"], set()).add(name)
        grouped = {signature: set(jobs) for signature, jobs in self.of("dead_jobs").items()}
        faults = [] if grouped == actual else [f"groups {grouped}, but the dead are {actual}"]
        if self.dead_groups != set(grouped):
            faults.append(f"records of groups {self.dead_groups}, but groups {set(grouped)}")
        return faults

    def _next_fits(self, gate: str, queue: str) -> bool:
        """Whether the lane of the best rank that waits at a gate may pass, of those that ever may."""
        places, most = self.room(gate)
        waiting = []
        for spot, lanes in self.of("parked").items():
            name, weight = split_line(spot.partition("\n")[0])
            if (name, spot.partition("\n")[2]) == (gate, queue) and weight <= most:
                waiting.append((min(lanes.values()), weight))
        return bool(waiting) and min(waiting)[1] <= places

    def _held_faults(self) -> list[str]:
        held = {name: job["held_by"] for name, job in self.jobs.items() if job.get("held_for") == "shed"}
        faults = [
            f"{name} is held by {act}, which does not know it"
            for name, act in held.items()
            if name not in self.of("touched").get(act, ())
        ]
        shed = {name.partition("|")[2] for name in self.controls if name.startswith("shed|")}
        if shed != set(held.values()):
            faults.append(f"{shed} shed jobs, but jobs are held by {set(held.values())}")
        return faults

    def _count_faults(self) -> list[str]:
        actual = Counter(
            f"{job['queue']}\n{job['family']}|{job['priority']}|{job['state']}"
            for job in self.jobs.values()
            if job["state"] not in _KEPT
        )
        counted = {
            field: n for field, n in self.counts.items() if n and field.rpartition("|")[2] not in _KEPT
        }
        return [] if counted == dict(actual) else [f"counts {counted}, but there are {dict(actual)}"]


def split_line(line: str) -> tuple[str, int]:
    """The gate of a line, and how many of its places one job takes."""
    gate, _, weight = line.partition("\t")
    return gate, int(weight or 1)
