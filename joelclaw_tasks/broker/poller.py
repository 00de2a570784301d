"""Poller: what the event loop waits for. Sockets of kombu's channels, of exchanges, and an alarm."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from kombu.transport import redis as stock
from kombu.transport.redis import DEFAULT_HEALTH_CHECK_INTERVAL
from kombu.utils.eventio import READ

from joelclaw_tasks.broker.alarm import Alarm
from joelclaw_tasks.silence import suspect

if TYPE_CHECKING:
    from joelclaw_tasks.broker.intake import Intake


class Poller(stock.MultiChannelPoller):
    """kombu's poller, which an alarm can wake from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.alarm = Alarm()
        self._expected: dict[int, Intake] = {}  # sockets of exchanges under way
        self._subclients_checked_at = 0.0
        self._alarm_fd = -1  # until an event loop polls it
        self._alarm_poller: Any = None

    def close(self) -> None:
        if self._alarm_poller is not None:
            try:
                self._alarm_poller.unregister(self._alarm_fd)
            except (KeyError, ValueError, OSError):
                pass
            self._alarm_poller, self._alarm_fd = None, -1
        self.alarm.close()
        self._expected.clear()
        super().close()

    def join_loop(self, loop: Any) -> None:
        """Let an event loop poll the alarm from now on."""
        self._alarm_fd = self.alarm.fd
        self._alarm_poller = self.poller
        loop.add_reader(self._alarm_fd, self.on_readable, self._alarm_fd)

    def check_health_every(self, interval_s: float, loop: Any) -> None:
        """Look for connections whose other end is silently gone, more often than kombu does by itself."""
        checks = {
            "_subclient_health_tref": self.maybe_check_subclient_health,
            "_brpop_health_tref": self.maybe_check_brpop_health,
        }
        for name, check in checks.items():
            getattr(self, name).cancel()
            setattr(self, name, loop.call_repeatedly(interval_s or DEFAULT_HEALTH_CHECK_INTERVAL, check))

    def get(self, callback: Any, timeout: float | None = None) -> Any:
        # Without an event loop there is no timer, and kombu would not check the connection of remote control.
        interval_s = min((channel.health_check_interval for channel in self._channels), default=0)
        if interval_s and monotonic() - self._subclients_checked_at > interval_s:
            self._subclients_checked_at = monotonic()
            self.maybe_check_subclient_health()
        return super().get(callback, timeout)

    def maybe_check_brpop_health(self) -> None:
        blocking = [(each, each._in_poll, each._brpop_sent_at) for each in self._channels if each._in_poll]
        super().maybe_check_brpop_health()
        for channel, connection, sent_at in blocking:
            if not channel._in_poll:
                suspect(connection, sent_at)
        for channel in list(self._channels):
            channel.intake.check()

    def on_poll_start(self) -> None:
        # kombu goes on calling this for a connection that is gone: then there are no channels.
        if self._channels and self._alarm_poller is not self.poller:
            self._alarm_fd = self.alarm.fd
            self.poller.register(self._alarm_fd, READ)
            self._alarm_poller = self.poller
        super().on_poll_start()

    def on_readable(self, fileno: int) -> Any:
        if fileno in self._expected:
            self._unregister_from_poll(fileno)
            return self._expected.pop(fileno).on_answer()
        if fileno != self._alarm_fd:
            return super().on_readable(fileno)
        self.alarm.clear()
        for channel in list(self._channels):
            channel.intake.pump()
        return None

    def expect(self, fileno: int, intake: Intake) -> None:
        """Tell the intake when this socket is readable, once."""
        self._expected[fileno] = intake

    def forget(self, intake: Intake) -> None:
        """Expect nothing more for the intake: a socket that is closed must not be polled."""
        for fileno in [fileno for fileno, expecting in self._expected.items() if expecting is intake]:
            del self._expected[fileno]
            self._unregister_from_poll(fileno)

    def handle_event(self, fileno: int, event: int) -> Any:
        if fileno == self._alarm_fd:
            return self.on_readable(fileno), self
        return super().handle_event(fileno, event)

    @property
    def fds(self) -> dict[int, Any]:
        return {**super().fds, **dict.fromkeys(self._expected)}
