"""Triage: a cheap model says how soon each event should start, for up to 20 events in one call.

It moves a job within a band around its own priority, and does nothing else. Whatever goes wrong, the job goes
on as it is, at once or at its deadline, with the reason in the transitions stream.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from time import monotonic
from typing import Annotated, Any

from joelclaw_tasks.core.score import Score
from joelclaw_tasks.core.states import State
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback, Question
from joelclaw_tasks.intelligence.guard import AnswerModel, Reasoning, clamp, compact, shown
from joelclaw_tasks.intelligence.prompt import Prompt
from joelclaw_tasks.message import argument_of

PURPOSE, TIER, ACTOR = "triage", "haiku", "triage"
#: Events of one call.
TOGETHER = 20
#: Between the answer and the deadline lies a call of Redis.
SPARE_MS = 150
#: In shadow nobody waits; an answer after this is of no use to anybody.
SHADOW_BUDGET_MS = 10_000
#: The same event again, within this: the same score, without asking.
REMEMBERED_S = 300.0
_REMEMBERED_MOST = 2_000
_EVENT_MOST_BYTES = 3_000


class RouteCheck(StrEnum):
    """Whether an event is what the name of its family says."""

    CONFIRM = "confirm"
    MISMATCH = "mismatch"


class Scored(AnswerModel):
    """What the model says of one event; `event` and `duplicate_of` are keys of the list that it was shown."""

    event: Annotated[str, shown("events")]
    score: Annotated[int, clamp(0, 100)]
    route_check: RouteCheck
    duplicate_of: str | None = None
    reasoning: Reasoning


class Scores(AnswerModel):
    """What the model says of a list of events."""

    scores: list[Scored]


def slack_of(score: int, level: int, slack_ms: Sequence[int]) -> tuple[int, int]:
    """The slack and the priority that a score stands for: at most one level up or down from its own.

    50 changes nothing, 100 is the slack of the next more urgent level, 0 that of the next less urgent.
    """
    own, more, less = slack_ms[level], slack_ms[max(level - 1, 0)], slack_ms[min(level + 1, 3)]
    if score >= 50:
        slack = own - (own - more) * (score - 50) // 50
    else:
        slack = own + (less - own) * (50 - score) // 50
    step = -1 if score >= 75 else 1 if score < 25 else 0
    return slack, min(max(level + step, 0), 3)


class Triage:
    """Scores jobs that want a score. `hold_ms` is how long they are held, at most."""

    def __init__(
        self,
        client: ModelClient,
        slack_ms: Sequence[int],
        hold_ms: int,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._client = client
        self._slack_ms = slack_ms
        self._hold_ms = hold_ms
        self._clock = clock
        self._prompt = Prompt.load("triage", {"route_checks": RouteCheck})
        self._remembered: dict[
            str, tuple[float, Scored, str]
        ] = {}  # what an event says -> when, score, model

    def run(self, store: Store) -> dict[str, int]:
        """Score what there is, until nothing is left; answers how often each word was heard of the store."""
        words: Counter[str] = Counter()
        while jobs := store.take_unscored(TOGETHER):
            words.update(
                word.value for word in store.score(self.scores_of(jobs, store.now_ms()), actor=ACTOR)
            )
        return dict(words)

    def scores_of(self, jobs: Sequence[Mapping[str, Any]], now_ms: int) -> list[Score]:
        """A score for each job, by the model, or from memory; or a note why there is none."""
        jobs = [_read(job) for job in jobs]
        known = {job["id"]: self._recall(job) for job in jobs}
        asked = [job for job in jobs if known[job["id"]] is None]
        found: dict[str, Scored] = {}
        about: dict[str, Any] = {}
        if asked:
            found, about = self._ask(asked, now_ms)
        scores = []
        for job in jobs:
            remembered = known[job["id"]]
            if remembered is not None:
                scores.append(self._score(job, remembered[0], {"model": remembered[1], "cached": True}))
            else:
                scores.append(self._score(job, found.get(job["id"]), about))
        return scores

    def _ask(
        self, jobs: Sequence[Mapping[str, Any]], now_ms: int
    ) -> tuple[dict[str, Scored], dict[str, Any]]:
        keys = {f"e{number}": job for number, job in enumerate(jobs, 1)}
        listed = [
            {"event": key, "family": job["family"], "priority": f"P{job['priority']}", "says": job["says"]}
            for key, job in keys.items()
        ]
        lines = ",\n".join(compact(each, most_bytes=_EVENT_MOST_BYTES) for each in listed)
        question = Question(
            purpose=PURPOSE,
            tier=TIER,
            prompt=self._prompt.render(events=f"<events>[\n{lines}\n]</events>"),
            answer=Scores,
            shown={"events": list(keys)},
            causes=Counter(job["family"] for job in jobs),
        )
        decision = self._client.decide(question, budget_ms=self._budget_ms(jobs, now_ms))
        about: dict[str, Any] = {
            "model": decision.model,
            "prompt": decision.prompt,
            "prompt_sha256": decision.prompt_sha256[:12],
            "latency_ms": round(decision.latency_ms),
            "cost_usd": round(decision.cost_nano_usd / 1e9 / len(jobs), 9),
        }
        if isinstance(decision, Fallback):
            return {}, about | {"fallback": decision.reason.value}
        found: dict[str, Scored] = {}
        for scored in decision.value.scores:
            job = keys[scored.event]
            # An answer is only as good as its worst mistake: what it says twice, it does not say at all.
            if job["id"] in found:
                return {}, about | {"fallback": "invalid_answer"}
            found[job["id"]] = scored
            self._remember(job, scored, decision.model)
        return found, about | {"fallback": "not_scored"}

    def _budget_ms(self, jobs: Sequence[Mapping[str, Any]], now_ms: int) -> float:
        held = [job["admitted_at"] for job in jobs if job["state"] == State.HELD]
        if not held:
            return SHADOW_BUDGET_MS
        return float(max(0, min(held) + self._hold_ms - SPARE_MS - now_ms))

    def _score(self, job: Mapping[str, Any], scored: Scored | None, about: Mapping[str, Any]) -> Score:
        note = dict(about)
        if scored is None:
            return Score(job["id"], note)
        note.pop("fallback", None)
        slack_ms, priority = slack_of(scored.score, job["priority"], self._slack_ms)
        note |= {"score": scored.score, "was": f"P{job['priority']}", "suggested": f"P{priority}"}
        note["reasoning"] = scored.reasoning
        note["route_check"] = scored.route_check.value
        if scored.duplicate_of:
            note["duplicate_of"] = scored.duplicate_of
        return Score(job["id"], note, slack_ms, priority)

    # -- what was asked just now --------------------------------------------------------------

    def _recall(self, job: Mapping[str, Any]) -> tuple[Scored, str] | None:
        found = self._remembered.get(job["sense"])
        if found is None or self._clock() - found[0] > REMEMBERED_S:
            return None
        return found[1], found[2]

    def _remember(self, job: Mapping[str, Any], scored: Scored, model: str) -> None:
        # Of what a list has twice, the model says so of the list.
        self._remembered[job["sense"]] = (
            self._clock(),
            scored.model_copy(update={"duplicate_of": None}),
            model,
        )
        while len(self._remembered) > _REMEMBERED_MOST:
            self._remembered.pop(next(iter(self._remembered)))


def _read(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job, and what its event `says`; its `sense` is the same for two events that say the same."""
    says = None  # of a call that is no event
    with contextlib.suppress(ValueError, TypeError, KeyError):
        wire = argument_of(job["payload"])
        # Without its id and time, which are never the same twice.
        says = {"source": wire["source"], "data": wire["data"]}
    said = json.dumps(says or job["id"], sort_keys=True, separators=(",", ":"), default=str)
    return {**job, "says": says, "sense": f"{job['family']}\n{job['priority']}\n{said}"}
