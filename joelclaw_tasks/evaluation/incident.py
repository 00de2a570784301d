"""Incident: a made-up failure with its evidence, and what really caused it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from joelclaw_tasks.evaluation.play import START_MS
from joelclaw_tasks.intelligence.diagnosis.answer import Cause
from joelclaw_tasks.intelligence.diagnosis.evidence import Evidence, Exhibit, Kind, Subject, bounded, iso

INCIDENTS = 40
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
_FAMILIES = ("mail/queued", "calendar/changed", "feed/due", "page/changed", "note/saved", "search/reindex")


@dataclass(frozen=True, slots=True)
class Incident:
    """`cause` is None when the evidence does not tell one from another: then to abstain is right.

    `telling` are the ids of the exhibits that show the cause.
    """

    name: str
    evidence: Evidence
    cause: Cause | None
    telling: frozenset[str]


@dataclass(slots=True)
class _Draft:
    """What an incident is made of. Telling exhibits are those that were added with `telling`."""

    rng: random.Random
    family: str
    onset_at: int
    found: list[tuple[Kind, int | None, str, str, bool]] = field(default_factory=list)

    @property
    def handler(self) -> str:
        return self.family.replace("/", ".")

    def add(self, kind: Kind, at: int | None, source: str, text: str, *, telling: bool = False) -> None:
        self.found.append((kind, at, source, text, telling))

    def fails(self, error: str, *, runs: int = 0, well: int = 0, telling: bool = True) -> None:
        """The failures and the rates before and since, as the collector says them."""
        runs = runs or self.rng.randrange(12, 60)
        until = iso(self.onset_at + 40 * _MINUTE_MS)
        dead = runs // 4
        text = f"{runs} failures of {runs - dead} jobs ({dead} for good) in {self.handler}, "
        self.add(
            Kind.FAILURES, self.onset_at, f"signature {self.rng.getrandbits(48):012x}",
            f"{text}{iso(self.onset_at)} to {until}: {error}", telling=telling,
        )  # fmt: skip
        before = f"before {iso(self.onset_at)}: 2 of {self.rng.randrange(150, 400)} runs failed"
        self.add(Kind.ERROR_RATE, self.onset_at, "runs", f"{before}; since then {runs} of {runs + well}")
        self.add(
            Kind.ATTEMPT, self.onset_at + _MINUTE_MS, "job a",
            f"attempt 3 of {self.handler} failed, to be retried after 41 ms: {error}",
        )  # fmt: skip

    def traceback(self, frame: str, error: str) -> None:
        text = f"{error}\nTraceback (most recent call last):\n  {frame}\n{error}"
        self.add(Kind.TRACEBACK, self.onset_at, "job a", text, telling=True)

    def shapes(self, text: str, *, telling: bool = False) -> None:
        self.add(Kind.PAYLOAD_SHAPE, None, "messages", text, telling=telling)

    def noise(self) -> None:
        """What has nothing to do with it, and stands there all the same."""
        day_ago = self.onset_at - 20 * _HOUR_MS
        noises: list[tuple[Kind, int | None, str, str]] = [
            (Kind.DEPLOY, day_ago, "git", "5c1e9d0 by joel: Wording of the digest"),
            (
                Kind.CONTROL,
                day_ago,
                "control 1-0",
                f"limit limit:handler/{self.handler} to 4 by joel: quieter",
            ),
            (Kind.REGISTRY, None, "registry", f"{self.handler}: limit 4, retries 3, timeout 60 s"),
            (Kind.HEALTH, self.onset_at + 30 * _MINUTE_MS, "health", "redis: healthy"),
            (Kind.PAST_DIAGNOSIS, day_ago, "diagnosis D1", "flapping_dependency, rejected by joel"),
        ]
        for kind, at, source, text in self.rng.sample(noises, self.rng.randrange(2, 5)):
            self.add(kind, at, source, text)

    def evidence(self) -> tuple[Evidence, frozenset[str]]:
        """The exhibits with their numbers, and the ids of the telling ones."""
        exhibits, omitted = bounded(
            Exhibit(id="E0", kind=kind, at=at, source=source, text=text)
            for kind, at, source, text, _ in self.found
        )
        telling = frozenset(
            exhibit.id for exhibit, made in zip(exhibits, self.found, strict=True) if made[-1]
        )
        evidence = Evidence(
            subject=Subject(kind="family", name=self.family, family=self.family, handler=self.handler),
            taken_at=self.onset_at + _HOUR_MS,
            since_at=self.onset_at - 24 * _HOUR_MS,
            onset_at=self.onset_at,
            failed=12,
            completed=3,
            exhibits=exhibits,
            omitted=omitted,
        )
        return evidence, telling


def make_incidents(seed: int, number: int = INCIDENTS) -> list[Incident]:
    """Incidents of all kinds in turn. Equal seeds make equal incidents."""
    made = []
    for each in range(number):
        name, cause, write = _KINDS[each % len(_KINDS)]
        rng = random.Random(f"{seed}/{name}/{each}")  # noqa: S311  # incidents, not secrets
        draft = _Draft(rng, rng.choice(_FAMILIES), START_MS + rng.randrange(0, _HOUR_MS, 1_000))
        write(draft)
        draft.noise()
        evidence, telling = draft.evidence()
        made.append(Incident(f"{name}-{each}", evidence, cause, telling))
    return made


# -- what is wrong --------------------------------------------------------------------------------


def _outage(draft: _Draft) -> None:
    host = draft.rng.choice(["smtp.example.org", "api.example.net", "10.0.0.7:5432"])
    errors = [
        f"ConnectionRefusedError: [Errno 111] {host} refused the connection",
        f"ConnectError: {host} is unreachable",
        f"HTTPStatusError: {host} answered 503 Service Unavailable",
    ]
    error = draft.rng.choice(errors)
    if draft.rng.random() < 0.5:
        # The handler says no more than that it gave up; the traceback has the rest.
        draft.fails("SendFailed: gave up after 3 tries", telling=False)
        draft.traceback(f'File "handlers/{draft.handler}.py", line 31, in send', error)
    else:
        draft.fails(error)
    if draft.rng.random() < 0.5:
        draft.add(Kind.HEALTH, draft.onset_at + _MINUTE_MS, "health", f"{host}: down", telling=True)


def _rate(draft: _Draft) -> None:
    draft.fails(draft.rng.choice(["RateLimited: the server answered 429", "TooManyRequests: slow down"]))


def _quota(draft: _Draft) -> None:
    errors = ["QuotaExceeded: the quota of this hour is used up", "BillingError: insufficient credit"]
    draft.fails(draft.rng.choice(errors))


def _credentials(draft: _Draft) -> None:
    errors = ["HTTPStatusError: 401 Unauthorized", "AuthenticationError: expired token"]
    draft.fails(draft.rng.choice(errors))


def _deploy(draft: _Draft) -> None:
    name = draft.rng.choice(["render", "parse_when", "slug_of"])
    at = draft.onset_at - draft.rng.randrange(1, 9) * _MINUTE_MS
    draft.add(Kind.DEPLOY, at, "git", f"8be21f4 by joel: Move {name} out of templates", telling=True)
    error = f"ImportError: cannot import name '{name}' from 'templates'"
    draft.fails(error)
    draft.traceback(f'File "handlers/{draft.handler}.py", line 12, in handle', error)


def _defect(draft: _Draft) -> None:
    error = draft.rng.choice(
        [
            "KeyError: 'title'",
            "TypeError: 'NoneType' object is not iterable",
            "IndexError: list index out of range",
        ]
    )
    draft.fails(error)
    draft.traceback(f'File "handlers/{draft.handler}.py", line 48, in tidy', error)
    draft.shapes("9 of 20 failed jobs: {title: text(..64)}")
    draft.shapes("11 of 20 failed jobs: {title: text(..16), tags: list(2) of text(..8)}")


def _poison(draft: _Draft) -> None:
    errors = ["ValidationError: when: this is no date", "DecodeError: malformed calendar, line 3"]
    errors += ["KeyError: 'when'", "TypeError: 'NoneType' object is not iterable"]  # only the shapes tell
    draft.fails(draft.rng.choice(errors), runs=14, well=draft.rng.randrange(200, 400))
    draft.shapes(
        "14 of 14 failed jobs: {when: text(..512)}; those that went well: {when: text(..16)}", telling=True
    )


def _resources(draft: _Draft) -> None:
    errors = ["OSError: [Errno 28] No space left on device", "MemoryError: ", "OSError: Too many open files"]
    draft.fails(draft.rng.choice(errors))


def _slow(draft: _Draft) -> None:
    draft.fails(draft.rng.choice(["ReadTimeout: no answer within 30 s", "TimeLimitExceeded: 60 s"]))
    draft.add(
        Kind.ATTEMPT, draft.onset_at, "job b",
        f"attempt 1 of {draft.handler} failed, to be retried after 30012 ms: it took too long", telling=True,
    )  # fmt: skip


def _unclear(draft: _Draft) -> None:
    draft.fails("RuntimeError: something went wrong", runs=2, well=90, telling=False)


_KINDS: tuple[tuple[str, Cause | None, Callable[[_Draft], None]], ...] = (
    ("outage", Cause.DOWNSTREAM_OUTAGE, _outage),
    ("rate", Cause.RATE_LIMITED, _rate),
    ("quota", Cause.QUOTA_EXHAUSTED, _quota),
    ("credentials", Cause.CREDENTIALS, _credentials),
    ("deploy", Cause.BAD_DEPLOY, _deploy),
    ("defect", Cause.CODE_DEFECT, _defect),
    ("poison", Cause.POISON_PAYLOAD, _poison),
    ("resources", Cause.RESOURCE_EXHAUSTED, _resources),
    ("slow", Cause.DOWNSTREAM_SLOW, _slow),
    ("unclear", None, _unclear),
)
