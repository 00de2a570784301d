"""Lost events: what a spool says was handed to Redis, or waits to be, and Redis does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, Planned
from joelclaw_tasks.errors import EventRefused, JoelclawError
from joelclaw_tasks.new_event import read_spooled
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.replay import Sender, now_ms, plan_line, reason_of
from joelclaw_tasks.sent_log import Sent, SentLog
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import AT_ONCE, Spool
from joelclaw_tasks.spool_files import read_lines
from joelclaw_tasks.spool_files import reason_of as reason_of_file
from joelclaw_tasks.steering.findings import Reconciled
from joelclaw_tasks.steering.steps import steps

#: Clocks of producers may be off by so much, before what is done and forgotten would be taken for lost.
_CLOCKS_MS = 60_000


class LostEvents:
    """One spool. `find` it, then `send` what was found; `jobs` are those that Redis should know.

    Raises CoreUnreachable, and RegistryError when events are lost and the registry has faults.
    """

    def __init__(self, store: Store, settings: Settings, spool: Spool, done: Reconciled) -> None:
        self._store = store
        self._settings = settings
        self._spool = spool
        self._log = SentLog(spool.path, settings.keep_finished_ms)
        self._done = done
        self._sendable: list[tuple[Sent, Planned]] = []
        self.jobs: set[str] = set()
        self.path = spool.path
        self.waiting = 0

    def find(self) -> None:
        """Note what waits, what was lost, and what cannot be read."""
        lost: dict[str, Sent] = {}
        for read in (self._read_waiting, lambda: self._read_sent(lost)):
            try:
                read()
            except OSError as error:
                file = str(error.filename or self.path)
                self._done.note("unreadable", file=file, reason=reason_of_file(error))
        if lost:
            self._plan(lost)

    def send(self, step: list[tuple[Sent, Planned]]) -> None:
        """Send some of the lost events again, in one go."""
        sender = Sender(self._emitter(), self._log)
        planned = {position: plan for position, (_, plan) in enumerate(step)}
        refused = sender.send(planned, [sent.line for sent, _ in step])
        self._done.of("lost").mended += len(step) - len(refused)

    def to_send(self) -> Iterator[list[tuple[Sent, Planned]]]:
        """The lost events, as many as go in one step."""
        return steps(self._sendable, AT_ONCE)

    def _read_waiting(self) -> None:
        if not self._spool.is_there():
            self._done.unchecked.append(f"spool: there is none at {self.path}")
        for path, number, line in self._spool.waiting():
            if self._event_of(path, number, line) is not None:
                self._done.saw("waiting")
                self.waiting += 1
                self._done.note("waiting", file=str(path), line=number)
        for number, _ in read_lines(self._spool.refused_path):
            self._done.note("refused", file=str(self._spool.refused_path), line=number)

    def _read_sent(self, lost: dict[str, Sent]) -> None:
        oldest_ms = now_ms() - self._settings.keep_finished_ms + _CLOCKS_MS
        too_old: set[str] = set()
        for entries in steps(self._sent(), AT_ONCE):
            known = known_jobs(self._store, {job for sent, _, _ in entries for job in sent.jobs})
            for sent, event_id, at_ms in entries:
                lost.pop(event_id, None)  # a later entry stands for the earlier one
                too_old.discard(event_id)
                if known.issuperset(sent.jobs):
                    continue
                if at_ms < oldest_ms:
                    too_old.add(event_id)
                else:
                    lost[event_id] = sent
        if too_old:
            why = "so old that Redis may have forgotten that they are done"
            self._done.unchecked.append(f"sent: {len(too_old)} events are {why}")

    def _sent(self) -> Iterator[tuple[Sent, str, int]]:
        for path, number, sent in self._log.read():
            event = self._event_of(path, number, None if sent is None else sent.line)
            if sent is not None and event is not None:
                self._done.saw("sent")
                yield sent, *event

    def _event_of(self, path: Path, number: int, line: bytes | None) -> tuple[str, int] | None:
        """Id and time of a line; one that cannot be read is a finding."""
        try:
            if line is None:
                raise ValueError("not an entry, or too long")
            new, at_ms = read_spooled(line)
            if not isinstance(new.id, str):
                raise ValueError("its id is no text")
        except ValueError as error:
            self._done.note("unreadable", file=str(path), line=number, reason=str(error))
            return None
        return new.id, at_ms

    def _plan(self, lost: dict[str, Sent]) -> None:
        emitter = self._emitter()
        for event_id, sent in lost.items():
            self.jobs.update(sent.jobs)
            try:
                planned = plan_line(emitter, sent.line, 0)
                _refuse_expired(planned)
            except (ValueError, JoelclawError) as error:
                self._done.note("untold", event=event_id, sent_at=sent.sent_at, reason=reason_of(error))
                continue
            self._sendable.append((sent, planned))
            jobs = [job.id for job in planned.jobs]
            self._done.note("lost", event=event_id, sent_at=sent.sent_at, name=planned.name, jobs=jobs)

    def _emitter(self) -> Emitter:
        return Emitter(self._settings, Registry.load(self._settings.registry_dir), self._store)


def known_jobs(store: Store, ids: Iterable[str]) -> set[str]:
    """Those that Redis has a record of, or of what they became a part of. Raises CoreUnreachable."""
    asked = list(ids)
    pipe = store.client.pipeline(transaction=False)
    for job_id in asked:
        pipe.exists(store.keys.job(job_id), store.keys.alias(job_id))
    found = store.ask(pipe.execute) if asked else []
    return {job_id for job_id, is_there in zip(asked, found, strict=True) if is_there}


def _refuse_expired(planned: Planned) -> None:
    expires_s = planned.new.expires_s if planned.new else None
    if expires_s is not None and planned.at_ms + expires_s * 1000 <= now_ms():
        raise EventRefused("it has expired meanwhile")
