"""kills: a busy worker is killed again and again; its jobs start elsewhere, soon, and none is lost.

The parent alone, the whole tree and one process of the prefork pool, in turn. A victim always runs something
that would have gone on for a while, and at least one other worker is up.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from chaos.drills.outcome import Outcome, Say, spread
from chaos.drills.running import Run, Running
from chaos.fault import noted
from chaos.fleet import MAX_KILLS, Fleet
from chaos.history import History
from chaos.process import Process
from chaos.verdict import Verdict

P50_S, P99_S = 2.0, 5.0
KINDS = ("parent", "tree", "child")
#: What a victim is running: three of these for each kill, which end this much later at the soonest.
_LASTS_S, _LEFT_S = 0.8, 0.2
_VICTIM_WITHIN_S = 60.0


def kills(fleet: Fleet, count: int, say: Say) -> Outcome:
    """Kill `count` times, and judge what became of the jobs."""
    running, done = Running(fleet.history_path), dict.fromkeys(KINDS, 0)
    fleet.start()
    fleet.wait(1.0)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        victim, run = _victim(fleet, running, kind)
        if kind == "child":
            with noted(fleet, "kill-child", pids=[run.pid], kills=True), suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
        else:
            with noted(fleet, f"kill-{kind}", victim, kills=True):
                victim.send(signal.SIGKILL, group=kind == "tree")
        done[kind] += 1
        if (number + 1) % 20 == 0 or number + 1 == count:
            say(f"{number + 1} of {count} kills, last {kind} of {victim.name}")
    running.close()
    fleet.wait_whole()
    fleet.rest()
    return judge(History.read(fleet.history_path), done)


def _victim(fleet: Fleet, running: Running, kind: str) -> tuple[Process, Run]:
    """A busy worker that may be killed so, and one job that it runs. Raises RuntimeError."""
    deadline, sent_at = time.monotonic() + _VICTIM_WITHIN_S, 0.0
    while time.monotonic() < deadline:
        if time.monotonic() - sent_at > _LASTS_S:
            sent_at = time.monotonic()
            for _ in range(3):
                fleet.send("lasting", _LASTS_S, "a")
        fleet.wait(0.05)
        running.look()
        ready = [worker for worker in fleet.workers if worker.is_ready()]
        fit = []
        for worker in ready:
            runs = running.of(worker.name)
            # A third death would bury the job, which is another promise.
            if len(ready) < 2 or any(run.attempt >= MAX_KILLS for run in runs):
                continue
            if kind == "child":
                # Those of a child that was killed before stay in the book.
                runs = [run for run in runs if run.pid in set(worker.children())]
            left = [run for run in runs if run.family == "lasting" and _has_long(run)]
            fit += [(worker, run) for run in left[:1] if kind != "child" or worker.role == "prefork"]
        if fit:
            return fleet.random.choice(fit)
    raise RuntimeError(f"no worker was busy within {_VICTIM_WITHIN_S:.0f} s, for a kill of kind {kind}")


def _has_long(run: Run) -> bool:
    return time.monotonic() - run.at < _LASTS_S - _LEFT_S


def judge(history: History, done: dict[str, int]) -> Outcome:
    """What the drill came to. `done` counts kills by kind."""
    outcome = Outcome("kills", {"kills": sum(done.values()), "by_kind": done})
    waits_s = list(restarts(history))
    again_s = [wait_s for wait_s in waits_s if wait_s is not None]
    outcome.at_least("restarted", len(again_s), sum(done.values()) // 2)
    outcome.at_most("never_restarted", waits_s.count(None), 0)
    outcome.figures["restart_s"] = spread(again_s)
    outcome.at_most("restart_p50_s", outcome.figures["restart_s"]["p50"], P50_S)
    outcome.at_most("restart_p99_s", outcome.figures["restart_s"]["p99"], P99_S)
    outcome.at_most("discarded", sum(_is_buried(history, job) for job in history.tales), 0)
    outcome.judge(Verdict.of(history))
    return outcome


def restarts(history: History) -> Iterator[float | None]:
    """Seconds to the next start of each job that a kill took from a worker; None: there was none."""
    deaths = [fault for fault in history.faults if fault.kills]
    for job, attempts in history.attempts_of.items():
        starts = sorted(each.started_at for each in attempts if each.started_at is not None)
        for attempt in attempts:
            if attempt.settled_by not in {"expire", "release", "discard"}:
                continue
            died_at = next((fault.at for fault in deaths if fault.interrupts(attempt)), None)
            if died_at is None:
                continue
            later = [at for at in starts if at > died_at and at != attempt.started_at]
            if later:
                yield min(later) - died_at
            elif not _is_buried(history, job):
                yield None


def _is_buried(history: History, job: str) -> bool:
    """Whether a job is in the dead letter that had no reason of its own to be there."""
    tale = history.tales[job]
    return tale.state == "discarded" and tale.moves[-1].get("family") not in history.run.get("fails", ())
