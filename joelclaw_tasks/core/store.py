"""Store: every verb of the deterministic core, as one Lua script each.

Methods build arguments, call a script and read its reply: no decision is made here. Time is
Redis's own unless `now_ms` is given. All calls raise CoreUnreachable when Redis does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.retry import Retry

from joelclaw_tasks.address import Address
from joelclaw_tasks.core.controls import Controls, text
from joelclaw_tasks.core.dead_letter import DeadLetter
from joelclaw_tasks.core.failure import Failure
from joelclaw_tasks.core.history import History
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.places import Place, Places
from joelclaw_tasks.core.reply import Claim, Decision, read_claim, read_decisions, read_word, read_words
from joelclaw_tasks.core.score import Scoring
from joelclaw_tasks.core.signing import Signing, signing_of
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.core.view import View
from joelclaw_tasks.core.wire import Command, Sent
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.settings import Settings


class Settling:
    """A `settle` on its way to Redis."""

    def __init__(self, store: Store, command: Command, tags: int, claims: bool, sent: Sent) -> None:
        self._store = store
        self._command = command
        self._tags = tags
        self._claims = claims
        self._sent = sent

    def fileno(self) -> int:
        """The socket that becomes readable when the answer arrives."""
        return self._sent.fileno()

    def give_up(self, since: float) -> None:
        """End its connection: `answer` then fails at once."""
        self._sent.give_up(since)

    def answer(self) -> tuple[list[Word], Claim]:
        """A word for each tag, and what was claimed. Waits; call it once. Raises CoreUnreachable."""
        [reply] = self._store._known([self._command], self._store._ask(self._sent.replies))
        if not self._claims:
            return read_words(reply), Claim([])
        return read_words(reply[: self._tags]), read_claim(reply[self._tags :])


class Store(Controls, Scoring):
    """The verbs. `client` answers bytes, and does not repeat commands by itself: what may be repeated is."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        *,
        lease_ms: int = 15_000,
        max_kills: int = 3,
        transitions_max: int = 100_000,
        dead_keep_ms: int = 30 * 86_400_000,
        dead_max: int = 100_000,
        now_ms: Callable[[], int] | None = None,
        signing: Signing | None = None,
    ) -> None:
        super().__init__(client, keys)
        self.lease_ms = lease_ms
        self.max_kills = max_kills
        self.transitions_max = transitions_max
        self.dead_keep_ms = dead_keep_ms
        self.dead_max = dead_max
        self._now_ms = now_ms
        self.signing = signing
        self.view = View(client, keys)
        self.dead = DeadLetter(client, keys, self.now_ms)
        self.history = History(partial(self._call, "history", repeatable=True), transitions_max)

    @classmethod
    def connect(cls, settings: Settings, *, timeout_s: float = 5.0, **options: Any) -> Store:
        """A store on the Redis of the settings, waiting `timeout_s` for answers. Raises CoreUnreachable."""
        if not settings.redis_url:
            raise CoreUnreachable("no Redis is known: no fleet is running here and REDIS_URL is not set")
        client = Address.parse(settings.redis_url).client(
            socket_timeout=timeout_s,
            socket_connect_timeout=min(timeout_s, 2.0),
            # Whoever waited for a silent server once need not wait three times.
            retry=Retry(
                ExponentialWithJitterBackoff(base=0.05, cap=0.5),
                2,
                supported_errors=(redis.exceptions.ConnectionError,),
            ),
        )
        return cls(
            client,
            Keys(settings.key_prefix),
            lease_ms=settings.lease_ms,
            max_kills=settings.max_kills,
            transitions_max=settings.transitions_max,
            dead_keep_ms=settings.dead_keep_days * 86_400_000,
            dead_max=settings.dead_max,
            signing=signing_of(settings),
            **options,
        )

    # -- jobs ---------------------------------------------------------------------------------

    def admit(self, jobs: Sequence[Job], *, repeatable: bool = True) -> list[Word | Decision]:
        """Nothing -> available or scheduled: all of the jobs, in one atomic step.

        Answers ADMITTED, SCHEDULED, REFUSED, DUPLICATE or SUCCEEDED for each job; for one with rules also
        EXPIRED, or a Decision that names another job. Safe to repeat while the job is known by its id, as a
        duplicate; `repeatable` says that this may happen here, when a connection breaks.
        """
        return read_decisions(
            self._call("admit", self._admit_args(self._signed(jobs)), repeatable=repeatable)
        )

    def was_admitted(self, job_id: str, since: float) -> bool:
        """Whether a job of this id was admitted since that time of this process's monotonic clock.

        Known from the transitions stream, so for as long as that reaches back.
        """
        now_ms = self.now_ms()
        since_at = now_ms - int((monotonic() - since) * 1000) - 1
        return any(
            entry.to_state for entry in self.history.read(since_at=since_at, job=job_id, verbs=["admit"])
        )

    def admit_many(self, batches: Iterable[Sequence[Job]]) -> list[list[Word | Decision]]:
        """`admit` for each batch, all in one round trip; each batch is atomic by itself."""
        commands = [self._command("admit", self._admit_args(self._signed(jobs))) for jobs in batches]
        return [read_decisions(reply) for reply in self._run(commands, repeatable=True)] if commands else []

    def adopt(self, queue: str, read: Callable[[bytes], Job], most: int = 100) -> list[Word | Decision]:
        """`admit` up to `most` messages of a queue's inbox, the oldest first; they leave it as they do.

        `read` makes the job of a message. Several workers may look at one inbox at the same time: what
        another has admitted meanwhile is a DUPLICATE here.
        """
        inbox = self.keys.inbox(queue)
        payloads = self._ask(lambda: self.client.lrange(inbox, -most, -1))
        jobs = [read(payload) for payload in reversed(payloads)]
        if not jobs:
            return []
        # Never signed: what is found there may be of anybody.
        return read_decisions(self._call("admit", self._admit_args(jobs), [inbox], repeatable=True))

    def retry(self, successor: Job, *, reason: str = "") -> Word:
        """A running job (`successor.lease_tag`) goes on as this job when it ends, because of `reason`.

        SUCCEEDED or LEASE_LOST.
        """
        return read_word(
            self._call("retry", [*self._admit_args(self._signed([successor])), text(reason, 200)])
        )

    def claim(
        self,
        queues: Sequence[str],
        most: int,
        holder: str,
        inboxes: Sequence[tuple[str, str]] = (),
    ) -> Claim:
        """Available -> executing: up to `most` jobs of the best ranks over all `queues`, under leases.

        `inboxes` pairs a queue with a list of stock producers to drain into its inbox. A claim whose
        reply is lost must not be repeated: call `held_by` and `release` what is not known.
        """
        keys, args = self._claim_args(queues, most, holder, inboxes)
        return read_claim(self._call("claim", args, keys))

    def settle(
        self,
        tags: Sequence[str],
        queues: Sequence[str] = (),
        most: int = 0,
        holder: str = "",
        inboxes: Sequence[tuple[str, str]] = (),
    ) -> tuple[list[Word], Claim]:
        """`complete` the tags and (with `most`) `claim` again, in one round trip."""
        return self.begin_settle(tags, queues, most, holder, inboxes).answer()

    def begin_settle(
        self,
        tags: Sequence[str],
        queues: Sequence[str] = (),
        most: int = 0,
        holder: str = "",
        inboxes: Sequence[tuple[str, str]] = (),
    ) -> Settling:
        """`settle`, without waiting for the answer."""
        if not most:
            command = self._command("complete", [*self._head(), *tags])
        else:
            keys, args = self._claim_args(queues, most, holder, inboxes)
            command = self._command("settle" if tags else "claim", [*args, *tags], keys)
        sent = self._ask(lambda: self._wire.send([command]))
        return Settling(self, command, len(tags), most > 0, sent)

    def complete(self, tags: Sequence[str]) -> list[Word]:
        """Executing -> completed. COMPLETED, RETRIED (it had a successor) or LEASE_LOST for each tag."""
        return read_words(self._call("complete", [*self._head(), *tags])) if tags else []

    def release(self, tags: Sequence[str], *, reason: str = "", killed: bool = False) -> list[Word]:
        """Executing -> available with the old rank. `killed` counts towards `max_kills`."""
        args = [*self._head(), self.max_kills, int(killed), reason, *tags]
        return read_words(self._call("release", args)) if tags else []

    def discard(self, tag: str, failure: Failure | str) -> Word:
        """Executing -> discarded: to the dead letter, with its failure. DISCARDED, RETRIED or LEASE_LOST.

        A text is the reason of somebody who knows of no exception.
        """
        if isinstance(failure, str):
            failure = Failure.without_exception("Discarded", failure)
        parts = (failure.error, failure.signature, failure.place, failure.traceback)
        return read_word(self._call("discard", [*self._head(), tag, *(text(part, 10_000) for part in parts)]))

    def cancel(self, ids: Sequence[str], *, actor: str, reason: str) -> list[Word]:
        """Waiting -> cancelled; what runs is asked to stop, and ends as cancelled.

        CANCELLED, ASKED, MISSING or WRONG_STATE (it is over) for each id.
        """
        return self.cancel_for_undo(ids, actor=actor, reason=reason, target="")[1] if ids else []

    def revive(self, ids: Sequence[str], *, actor: str, reason: str) -> list[Word]:
        """Discarded -> available, as new. REVIVED, MISSING or WRONG_STATE for each id."""
        return read_words(self._call("revive", [*self._head(), actor, text(reason), *ids])) if ids else []

    def purge(
        self, ids: Sequence[str], *, actor: str, reason: str, until_ms: int | None = None
    ) -> list[Word]:
        """Discarded -> cancelled: message and failure are deleted. PURGED, MISSING or WRONG_STATE for each.

        What was discarded after `until_ms` (epoch) stays, as WRONG_STATE.
        """
        args = [*self._head(), actor, text(reason), "" if until_ms is None else until_ms, *ids]
        return read_words(self._call("purge", args)) if ids else []

    def trim_dead(self, at_once: int = 500) -> int:
        """`purge` what is dead for longer than `dead_keep_ms`, and the oldest of more than `dead_max`.

        0 means no bound. Takes at most `at_once` for each of the two reasons; answers how many went.
        """
        purged = 0
        overdue = self._ask(lambda: self.dead.overdue(self.dead_keep_ms, self.dead_max, at_once))
        for ids, until_ms, reason in overdue:
            words = self.purge(ids, actor="retention", reason=reason, until_ms=until_ms)
            purged += words.count(Word.PURGED)
        return purged

    # -- holders ------------------------------------------------------------------------------

    def renew(self, holder: str, record: dict[str, Any]) -> int:
        """Keep all leases of a holder for another `lease_ms`; answers how many it has."""
        args = [*self._head(), self.max_kills, self.lease_ms, holder, json.dumps(record)]
        return int(self._call("renew", args, repeatable=True))

    def expire(self, holders: Sequence[str], *, reason: str) -> int:
        """Take all jobs of dead holders back, now; answers how many."""
        args = [*self._head(), self.max_kills, reason, *holders]
        return int(self._call("expire", args)) if holders else 0

    def holders(self) -> dict[str, dict[str, Any]]:
        """Every known holder and its record."""
        found = self._ask(lambda: self.client.hgetall(self.keys.holders))
        return {name.decode(): json.loads(record) for name, record in found.items()}

    def asked(self, holder: str) -> list[str]:
        """The delivery tags of those jobs of a holder that were asked to stop."""
        tags = self._ask(lambda: self.client.zrange(self.keys.asked(holder), 0, -1))
        return [tag.decode() for tag in tags]

    def held_by(self, holder: str) -> list[str]:
        """The delivery tags that a holder owns now."""
        ids = self._ask(lambda: self.client.zrange(self.keys.leases(holder), 0, -1))
        pipe = self.client.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self.keys.job(job_id.decode()), "admitted_at", "claims")
        return [
            b"#".join((job_id, admitted_at, claims)).decode()
            for job_id, (admitted_at, claims) in zip(ids, self._ask(pipe.execute), strict=True)
            if claims
        ]

    def places(self, ids: Sequence[str]) -> list[Place | None]:
        """Where each of these jobs was admitted; see core/places.py."""
        return list(self._ask(lambda: Places(self.client, self.keys).of(ids)))

    def bounded(self, gates: Collection[str]) -> set[str]:
        """Those of the gates that have a limit or a rate now."""
        return set(self._ask(lambda: Places(self.client, self.keys).bounded(gates)))

    # -- queues -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Depth, ages, gates and pauses: see View.snapshot."""
        return dict(self._ask(self.view.snapshot))

    def list_jobs(self, limit: int = 10) -> list[dict[str, Any]]:
        """The next jobs in order: see View.list_jobs."""
        return list(self._ask(lambda: self.view.list_jobs(limit)))

    def inspect(self, job_id: str) -> dict[str, Any]:
        """Everything known of one job: see View.inspect. Raises UnknownJob."""
        return dict(self._ask(lambda: self.view.inspect(job_id)))

    def queue_size(self, queue: str) -> int:
        """How many jobs of a queue wait, for whatever they wait."""
        return int(self._ask(lambda: self.view.queue_size(queue)))

    def cancel_queue(self, queue: str, *, actor: str, reason: str) -> int:
        """`cancel` every waiting job of a queue, those in the parking lot included; answers how many."""
        return int(self._ask(lambda: self._cancel_queue(queue, actor, reason)))

    def _cancel_queue(self, queue: str, actor: str, reason: str) -> int:
        client: Any = self.client  # redis-py types every reply as str | bytes | None
        purged = client.llen(self.keys.inbox(queue))
        client.ltrim(self.keys.inbox(queue), 0, -1 - purged)  # its oldest, as many as were counted
        # As jobs move: what leaves the parking lot or its clock meanwhile is found in its lane.
        shed = [act for act in client.hkeys(self.keys.controls) if act.startswith(b"shed|")]
        for act in shed:
            held = client.zrange(self.keys.touched(act.partition(b"|")[2].decode()), 0, -1)
            purged += self._cancel_of_queue(queue, held, actor, reason)
        timers = client.zscan_iter(self.keys.timers, "job|*", 1000)
        waiting = [member.partition(b"|")[2] for member, _ in timers]
        purged += self._cancel_of_queue(queue, waiting, actor, reason)
        for lane in client.smembers(self.keys.lanes(queue)):
            while ids := client.zrange(self.keys.lane(lane.decode()), 0, 999):
                cancelled = self._cancel_all(ids, actor, reason)
                purged += cancelled
                if not cancelled:
                    break  # hashes deleted by hand: nothing is left to cancel
        return int(purged)

    def _cancel_of_queue(self, queue: str, jobs: list[bytes], actor: str, reason: str) -> int:
        cancelled = 0
        for start in range(0, len(jobs), 1000):
            pipe: Any = self.client.pipeline(transaction=False)
            for job_id in jobs[start : start + 1000]:
                pipe.hget(self.keys.job(job_id.decode()), "queue")
            found = zip(jobs[start : start + 1000], pipe.execute(), strict=True)
            ids = [job_id for job_id, other in found if other == queue.encode()]
            cancelled += self._cancel_all(ids, actor, reason)
        return cancelled

    def _cancel_all(self, ids: list[bytes], actor: str, reason: str) -> int:
        return self.cancel([i.decode() for i in ids], actor=actor, reason=reason).count(Word.CANCELLED)

    # -- inside -------------------------------------------------------------------------------

    def admit_command(self, jobs: Sequence[Job]) -> Command:
        """What follows EVALSHA in somebody else's pipeline, to `admit` there."""
        return self._command("admit", self._admit_args(self._signed(jobs)))

    def now_ms(self) -> int:
        """The time in epoch milliseconds: Redis's own, unless a test gave another."""
        return self.view.now_ms() if self._now_ms is None else self._now_ms()

    def _head(self) -> list[Any]:
        return ["" if self._now_ms is None else self._now_ms(), self.transitions_max]

    def _signed(self, jobs: Sequence[Job]) -> Sequence[Job]:
        if self.signing is not None:
            for job in jobs:
                self.signing.sign(job)
        return jobs

    def _admit_args(self, jobs: Sequence[Job]) -> list[Any]:
        args = self._head()
        for job in jobs:
            args.extend(job.args())
        return args

    def _claim_args(
        self, queues: Sequence[str], most: int, holder: str, inboxes: Sequence[tuple[str, str]]
    ) -> tuple[list[str], list[Any]]:
        args = [*self._head(), self.max_kills, self.lease_ms, holder, most, len(queues), *queues]
        keys: list[str] = []
        for queue, key in inboxes:
            args.append(queue)
            keys.append(key)
        return keys, args


def single_shot_retry() -> Retry:
    """For clients that claim: a command is never repeated behind the caller's back."""
    return Retry(NoBackoff(), 0)
