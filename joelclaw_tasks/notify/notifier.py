"""Notifier: tells people what they should know, and no more of it than they can use.

What becomes of a notification is decided in Redis, so that of several processes one tells it. It goes into
the outbox of every sink; whoever told it delivers at once, and beat's task what was left. Telling never
raises, and takes a few seconds at most. While Redis is away, the console says it all the same.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from joelclaw_tasks.core.notices import Notices, Told, Word
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError
from joelclaw_tasks.notify.console import Console
from joelclaw_tasks.notify.digest import digest_of
from joelclaw_tasks.notify.notification import Button, Notice, Notification, note_of
from joelclaw_tasks.notify.sink import Sink, SinkAway, SinkRefused
from joelclaw_tasks.notify.sinks import sinks_of
from joelclaw_tasks.quiet import QuietHours
from joelclaw_tasks.settings import Settings

log = logging.getLogger(__name__)

#: Whoever tells something waits for its delivery no longer than this; the task of beat has more time.
TELLER_WITHIN_S, TASK_WITHIN_S = 3.0, 40.0
#: More than so many that waited for a sink are told as one.
MOST_SINGLY = 5
_REDIS_WITHIN_S = 2.0
#: A Redis that does not answer is not asked again for so long: each try holds up somebody.
_REDIS_AWAY_S = 10.0
_ANY_NUMBER = 1_000_000
_ERROR = 2


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is told: the time that a cause is quiet after it was told, lines of a digest, quiet hours."""

    cooldown_ms: int = 900_000
    digest_lines: int = 20
    quiet: QuietHours | None = None

    @classmethod
    def of(cls, settings: Settings) -> Pace:
        """From the settings. Raises SettingsError."""
        text = settings.notify_quiet_hours
        quiet = QuietHours.parse(text, "JOELCLAW_NOTIFY_QUIET_HOURS") if text.strip() else None
        return cls(1_000 * settings.notify_cooldown_s, max(1, settings.notify_digest_lines), quiet)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a sink said to a test. `detail` is empty when it took it."""

    sink: str
    is_ok: bool
    detail: str = ""


def telling(make: Callable[[], Notifier]) -> Callable[..., None]:
    """Tells by a notifier that is made when there is something to tell: who only looks needs no tokens."""

    def tell(*said: Any, **options: Any) -> None:
        make()(*said, **options)

    return tell


class Notifier:
    """Tells. One for each process; safe to share between threads. `notices` None: no Redis is known."""

    def __init__(self, notices: Notices | None, sinks: Sequence[Sink], pace: Pace) -> None:
        self.notices = notices
        self.sinks = sinks
        self._pace = pace
        self._alone: dict[str, tuple[float, int]] = {}
        self._ask_redis_at_s = float("-inf")

    @classmethod
    def of(
        cls, settings: Settings, store: Store | None = None, *, console: Console | None = None
    ) -> Notifier:
        """As the settings say, on the Redis of a store, or a connection of its own. Raises SettingsError."""
        if store is None and settings.redis_url:
            store = Store.connect(settings, timeout_s=_REDIS_WITHIN_S)
        notices = None if store is None else Notices(store)
        return cls(notices, sinks_of(settings, notices, console), Pace.of(settings))

    def __call__(
        self,
        text: str,
        *,
        cause: str,
        severity: str = "info",
        change: str = "",
        ends_at: int | None = None,
        buttons: Sequence[Button] = (),
    ) -> None:
        """Tell it; see Notification. Never raises."""
        try:
            self.tell(
                Notification.clean(
                    text, cause=cause, severity=severity, change=change, ends_at=ends_at, buttons=buttons
                )
            )
        except Exception as error:  # noqa: BLE001  # whoever tells something has other work to do
            log.error("a notification about %s was not told: %s", str(cause)[:80], type(error).__name__)

    def tell(self, notification: Notification) -> Word:
        """Tell it, unless it is held back; answers what became of it. Raises nothing of Redis or sinks."""
        if self.notices is None or time.monotonic() < self._ask_redis_at_s:
            return self._tell_alone(notification)
        try:
            now_ms = self.notices.now_ms()
            id = f"{notification.level}-{uuid.uuid4().hex}"
            told = Told(
                id,
                notification.cause,
                notification.level,
                notification.change,
                note_of(notification, id, now_ms),
                notification.ends_at,
            )
            word = self.notices.decide(
                told,
                [sink.name for sink in self.sinks],
                now_ms=now_ms,
                quiet_until_at=self._quiet_until_at(now_ms),
                cooldown_ms=self._pace.cooldown_ms,
            )
        except (CoreUnreachable, redis.RedisError, OSError):
            self._ask_redis_at_s = time.monotonic() + _REDIS_AWAY_S
            return self._tell_alone(notification)
        if word == "told":
            self.deliver(TELLER_WITHIN_S)
        return word

    def run_due(self, within_s: float = TASK_WITHIN_S, *, is_forced: bool = False) -> dict[str, Any]:
        """Send what was held back and may go now (forced: all of it), and what sinks have not taken yet.

        Answers `{digest: causes in it, waiting: {sink: how many}}`. Raises CoreUnreachable.
        """
        assert self.notices is not None
        now_ms, causes = self.notices.now_ms(), 0
        if is_forced or self._quiet_until_at(now_ms) is None:
            # The level of a digest that somebody asks for is the highest: it goes in quiet hours as well.
            id = f"{3 if is_forced else 1}-{uuid.uuid4().hex}"
            names = [sink.name for sink in self.sinks]
            causes = self.notices.make_digest(id, names, now_ms=now_ms, is_forced=is_forced)
        self.deliver(within_s)
        waiting = {sink.name: self.notices.sink(sink.name)["waiting"] for sink in self.sinks}
        return {"digest": causes, "waiting": waiting}

    def deliver(self, within_s: float) -> None:
        """Give every sink what waits for it, for so long; what is left is for the next one who delivers."""
        deadline = time.monotonic() + within_s
        for sink in self.sinks:
            try:
                self._deliver_to(sink, deadline)
            except (CoreUnreachable, redis.RedisError, OSError) as error:
                log.warning("what waits for %s goes later: %s", sink.name, type(error).__name__)

    def try_all(self) -> list[Tried]:
        """Send a test to every sink, whatever is muted, quiet or away; changes nothing that is remembered."""
        found = []
        for sink in self.sinks:
            notice = Notice(
                f"0-{uuid.uuid4().hex}",
                int(time.time() * 1_000),
                "This is a test: joelclaw can reach you here.",
                "notify.test",
                change="opened",  # so that a task list takes it as well
            )
            try:
                sink.send(notice)
                found.append(Tried(sink.name, True))
            except JoelclawError as error:
                found.append(Tried(sink.name, False, str(error)))
        return found

    # -- inside -------------------------------------------------------------------------------

    def _deliver_to(self, sink: Sink, deadline: float) -> None:
        assert self.notices is not None
        holder = uuid.uuid4().hex
        while True:
            now_ms = self.notices.now_ms()
            if time.monotonic() >= deadline:
                self.notices.let_go(sink.name, holder, now_ms=now_ms)
                return
            taken = self.notices.take(
                sink.name,
                holder,
                now_ms=now_ms,
                most_per_hour=sink.most_per_hour,
                only_urgent=self._quiet_until_at(now_ms) is not None,
                singly=MOST_SINGLY if sink.merges else _ANY_NUMBER,
            )
            if not taken:
                return
            ids = [id for id, _ in taken]
            try:
                sink.send(self._notice_of(taken))
            except SinkRefused as error:
                log.error("%s refuses a notification: %s", sink.name, error)
                self.notices.refused(sink.name, ids, str(error), now_ms=now_ms)
            except SinkAway as error:
                wait_ms = None if error.retry_after_s is None else round(error.retry_after_s * 1_000)
                log.warning("%s does not take a notification now: %s", sink.name, error)
                self.notices.away(sink.name, str(error), now_ms=now_ms, retry_after_ms=wait_ms)
                return
            except Exception as error:  # noqa: BLE001  # a sink's defect must not stop the others
                log.warning("%s failed: %s", sink.name, type(error).__name__)
                self.notices.away(sink.name, type(error).__name__, now_ms=now_ms)
                return
            else:
                self.notices.sent(sink.name, ids, now_ms=now_ms)

    def _notice_of(self, taken: Sequence[tuple[str, dict[str, Any]]]) -> Notice:
        if len(taken) > 1 or "held" in taken[0][1]:
            return digest_of(taken, self._pace.digest_lines)
        try:
            return Notice.of(taken[0][1])
        except (KeyError, TypeError, ValueError):
            raise SinkRefused("what is kept of it makes no sense") from None

    def _quiet_until_at(self, now_ms: int) -> int | None:
        return None if self._pace.quiet is None else self._pace.quiet.until_at(now_ms)

    def _tell_alone(self, notification: Notification) -> Word:
        """Without Redis: the console, and for what is an error every sink; once in a cooldown."""
        now_s = time.monotonic()
        at_s, level = self._alone.get(notification.cause, (float("-inf"), -1))
        if now_s - at_s < self._pace.cooldown_ms / 1_000 and notification.level <= level:
            return "repeated"
        if len(self._alone) >= 1_000:
            self._alone.clear()
        self._alone[notification.cause] = (now_s, notification.level)
        deadline = now_s + TELLER_WITHIN_S
        id = f"{notification.level}-{uuid.uuid4().hex}"
        notice = Notice.of(note_of(notification, id, int(time.time() * 1_000)))
        for sink in self.sinks:
            if sink.name != "console" and (notification.level < _ERROR or time.monotonic() >= deadline):
                continue
            try:
                sink.send(notice)
            except Exception as error:  # noqa: BLE001  # the next sink may take it
                log.warning("%s did not take a notification: %s", sink.name, type(error).__name__)
        return "told"
