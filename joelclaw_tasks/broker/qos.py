"""QoS: what is delivered and not settled yet. An ack completes the job, a reject releases or discards it."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock
from kombu.transport import virtual

from joelclaw_tasks.broker.evidence import refusal
from joelclaw_tasks.broker.jobs import passes_gates
from joelclaw_tasks.broker.running import give_back
from joelclaw_tasks.core.states import Word

#: Without a prefetch limit a channel takes this many jobs at once.
CLAIM_WITHOUT_LIMIT = 32
#: The most jobs that one claim asks for: it bounds how long the script holds Redis.
CLAIM_MOST = 100


class QoS(stock.QoS):
    """Delivered messages are leases: the record of them is in Redis before they arrive here."""

    def append(self, message: Any, delivery_tag: str) -> None:
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """The worker is done: complete, or discard when it left a failure on the message."""
        message = self._delivered.get(delivery_tag)
        failure = getattr(message, "failure", None)
        if failure:
            self.channel.holder.discard(delivery_tag, failure)
        virtual.QoS.ack(self, delivery_tag)  # first: whoever tells of the finish may fill its room
        if not failure and self.channel.holder.owns(delivery_tag):
            self.channel.intake.finish(delivery_tag, frees_a_place=passes_gates(message))
        self.channel.intake.on_room()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Back to its lane with `requeue`, else to the dead letter."""
        message = self._delivered.get(delivery_tag)
        holder = self.channel.holder
        if not holder.owns(delivery_tag):
            pass
        elif requeue:
            killed = bool(getattr(message, "killed", False))
            reason = "worker process lost" if killed else "rejected"
            if Word.DISCARDED in holder.release([delivery_tag], reason=reason, killed=killed):
                message.on_discarded()
        else:
            failure = getattr(message, "failure", None)
            if failure is None:
                task = getattr(message, "task_name", "")
                failure = refusal("Rejected", "rejected by the worker", place=task)
            holder.discard(delivery_tag, failure)
        self._forget(delivery_tag)

    def restore_unacked(self, client: Any = None) -> None:
        """Give back what was delivered and has not started; what runs keeps its lease and finishes."""
        self._flush()
        unstarted = give_back(tuple(self._delivered.items()))
        tags = [tag for tag in unstarted if self.channel.holder.owns(tag)]
        if tags:
            self.channel.holder.release(tags, reason="worker stopped")
        for tag in unstarted:
            self._delivered.pop(tag, None)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Leases replace the visibility timeout."""

    def room(self) -> int:
        """How many more messages the channel may have delivered."""
        most = self.can_consume_max_estimate()
        return CLAIM_WITHOUT_LIMIT if most is None else min(most, CLAIM_MOST)

    def _forget(self, delivery_tag: str) -> None:
        virtual.QoS.ack(self, delivery_tag)
        self.channel.intake.on_room()
