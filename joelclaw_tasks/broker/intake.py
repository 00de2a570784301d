"""Intake: exchange by exchange, tells Redis what finished and claims as many jobs as there is room for.

An exchange is one round trip for both. It is begun here and read when its answer is there, so that the event
loop does not wait for a Redis that is far away.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING

from kombu.log import get_logger

from joelclaw_tasks.broker.patience import Patience, is_readable

if TYPE_CHECKING:
    from joelclaw_tasks.broker.holder import Exchange
    from joelclaw_tasks.broker.transport import Channel
    from joelclaw_tasks.core.reply import Claim

logger = get_logger(__name__)

#: An answer of Redis that takes longer than this does not hold up the event loop.
ANSWER_WITHIN_S = 0.0005
#: Then the event loop has its turn: remote control, heartbeats, timers.
TURN_S = 0.01
#: For so long, at most, a pool of threads has the interpreter for itself after it was handed something.
YIELD_S = 0.0001


class Intake:
    """The exchanges of one channel. In the thread of the event loop, but for `finish` and `on_room`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.is_hungry = False  # work may be ready: claim before blocking again
        self.is_cancelled = False  # the channel consumes nothing any more
        self.look_again_at = 0.0  # monotonic seconds: then something is due
        self._exchange: Exchange | None = None  # under way: its answer is not read yet
        self._is_expected = False  # its socket is polled
        self._expected_since = 0.0
        self._pumping_in = 0  # the thread that is inside pump()
        self._patience = Patience()

    def begin(self) -> None:
        """The channel has something to consume."""
        self.is_cancelled = False
        self.is_hungry = True
        self._channel.connection.cycle.alarm.ring()

    def cancel(self) -> None:
        """The channel consumes nothing any more: whoever finishes tells Redis at once."""
        self.is_cancelled = True
        self._channel.holder.flush()

    def pump(self) -> bool:
        """Tell Redis what finished, claim what there is room for, deliver it.

        Answers whether something was delivered. The solo pool runs a task inside its delivery, so
        there is more to tell at once: exchanges of one turn spare it the event loop between tasks.
        """
        if self._is_expected:
            return False
        delivered = is_over_time = False
        self._pumping_in = get_ident()
        try:
            until = monotonic() + TURN_S
            while not is_over_time:
                self._begin_exchange()
                if self._exchange is None or not self._has_answer():
                    break
                delivered = self.end_exchange() or delivered
                is_over_time = monotonic() > until
        finally:
            self._pumping_in = 0
        if self._channel.connection is None:
            return delivered  # whoever was delivered to has closed the channel
        if self._exchange is not None:
            self._is_expected = True
            self._expected_since = monotonic()
            self._channel.connection.cycle.expect(self._exchange.fileno(), self)
        elif is_over_time:
            self._ring()
        elif delivered and self._channel.connection.runs_in_threads:
            # Nothing else is to be done, and to prepare for blocking would keep the GIL from the very threads
            # that are to start. A finish ends the wait.
            is_readable(self._channel.connection.cycle.alarm.fd, YIELD_S)
        return delivered

    def on_answer(self) -> bool:
        """The answer of the exchange under way can be read."""
        self._is_expected = False
        return self.pump()

    def check(self) -> None:
        """Give up on an answer that is overdue: its connection ends, and the worker connects anew."""
        waits_s = monotonic() - self._expected_since
        patience_s = self._channel.brpop_timeout + self._channel.health_check_interval
        if self._exchange is not None and self._is_expected and waits_s > patience_s:
            logger.warning("Redis has not answered for %.0f s; its connection is given up", waits_s)
            self._exchange.give_up(self._expected_since)

    def end_exchange(self) -> bool:
        """Read the answer of the exchange under way and let the channel deliver what it claimed."""
        exchange, self._exchange = self._exchange, None
        if self._is_expected:
            self._is_expected = False
            self._channel.connection.cycle.forget(self)
        if exchange is None:
            return False
        claim = exchange.end()
        if exchange.most:
            self._note(claim)
        return self._channel.take(claim)

    def finish(self, delivery_tag: str, *, frees_a_place: bool = False) -> None:
        """A job is done; from any thread. Another may have waited for its place."""
        channel = self._channel
        channel.holder.finish(delivery_tag)
        transport = channel.connection
        if transport is None or self.is_cancelled or not transport.in_event_loop:
            channel.holder.flush()
            return
        if frees_a_place:
            # What waited is claimed in the same exchange, and not when its token has come around.
            self.is_hungry = True
        if self.is_delivering():
            self._begin_exchange()  # the solo pool: Redis works while Celery winds the task up
        else:
            self._ring()

    def is_delivering(self) -> bool:
        """Whether this thread is inside a delivery of this channel: the solo pool runs the task there."""
        return self._pumping_in == get_ident()

    def on_room(self) -> None:
        """A delivered message is settled; from any thread."""
        if self.is_hungry and self._channel.connection is not None:
            self._ring()

    def _begin_exchange(self) -> None:
        """Start an exchange when there is something to tell or to claim, and none is under way."""
        channel = self._channel
        if self._exchange is not None or channel._closing or channel.closed or not channel.admitting:
            return
        qos, holder = channel.qos, channel.holder
        most = qos.room() if self.is_hungry else 0
        if most > 0:
            holder.serves(channel.admitting, qos.prefetch_count or 0)
            self._exchange = holder.begin_exchange(list(channel.admitting), most, channel.inboxes())
        elif holder.has_finished():
            self._exchange = holder.begin_exchange()

    def _has_answer(self) -> bool:
        """Whether the answer of the exchange under way is there, or will be in a moment."""
        if self._exchange is None or not self._channel.connection.in_event_loop:
            return True
        return self._patience.has_answer(self._exchange.fileno(), ANSWER_WITHIN_S)

    def _ring(self) -> None:
        # While this very thread pumps, it looks for more by itself.
        if not self.is_delivering():
            self._channel.connection.cycle.alarm.ring()

    def _note(self, claim: Claim) -> None:
        self.is_hungry = claim.more or claim.inbox
        wait_s = self._channel.brpop_timeout
        if claim.next_due_ms is not None:
            wait_s = min(wait_s, claim.next_due_ms / 1000)
        self.look_again_at = monotonic() + wait_s
