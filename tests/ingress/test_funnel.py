"""Funnel: concurrent requests share calls, and nobody gets another's answer."""

from __future__ import annotations

import asyncio
import threading

import pytest

from joelclaw_tasks.emit import Planned
from joelclaw_tasks.errors import CoreUnreachable
from joelclaw_tasks.ingress.funnel import CALL_EVENTS, LOT_EVENTS, WAITING_EVENTS, Funnel, Outcome
from joelclaw_tasks.ingress.replies import Refusal
from joelclaw_tasks.receipt import Receipt


def event(event_id: str) -> Planned:
    return Planned(id=event_id, name="discovery/noted", jobs=[])


def receipt(planned: Planned) -> Receipt:
    return Receipt(event_id=planned.id, name=planned.name, jobs=())


class Calls:
    """An Emitter.admit that notes its calls, and may fail or be held up."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.called = threading.Event()
        self.failure: Exception | None = None

    def __call__(self, events: list[Planned]) -> list[Receipt]:
        assert self.go_on.wait(10)
        self.calls.append([one.id for one in events])
        self.called.set()
        if self.failure is not None:
            raise self.failure
        return [receipt(one) for one in events]


def test_what_arrives_during_a_call_goes_into_the_next_one_together():
    calls = Calls()

    async def scenario() -> list[list[Receipt]]:
        funnel = Funnel(calls)
        calls.go_on.clear()
        first = asyncio.create_task(funnel.emit([event("first")]))
        await asyncio.sleep(0.02)
        others = [asyncio.create_task(funnel.emit([event(f"{n}a"), event(f"{n}b")])) for n in range(50)]
        await asyncio.sleep(0.02)
        calls.go_on.set()
        answers = await asyncio.gather(first, *others)
        await funnel.close()
        return answers

    answers = asyncio.run(scenario())

    assert [["first"], [f"{n}{half}" for n in range(50) for half in "ab"]] == calls.calls
    expected = [["first"], *([f"{n}a", f"{n}b"] for n in range(50))]
    assert expected == [[one.event_id for one in answer] for answer in answers]


def test_redis_works_on_the_first_of_a_crowd_while_the_loop_is_busy_with_the_last():
    calls = Calls()

    async def scenario() -> None:
        funnel = Funnel(calls)
        for n in range(LOT_EVENTS + 1):
            funnel.put([event(str(n))], lambda _outcome: None)
        assert calls.called.wait(10)  # the loop cannot turn meanwhile
        await funnel.close()

    asyncio.run(scenario())

    assert [[str(n) for n in range(LOT_EVENTS)], [str(LOT_EVENTS)]] == calls.calls


def test_one_who_cannot_be_told_keeps_nobody_else_from_hearing(caplog: pytest.LogCaptureFixture):
    def fails(_outcome: Outcome) -> None:
        raise RuntimeError("the connection is in a bad state")

    async def scenario() -> list[Receipt]:
        funnel = Funnel(Calls())
        funnel.put([event("a")], fails)
        answer = await funnel.emit([event("b")])
        await funnel.close()
        return answer

    assert [receipt(event("b"))] == asyncio.run(scenario())
    assert "could not be answered" in caplog.text


def test_when_redis_is_gone_everybody_who_waits_hears_it_at_once():
    calls = Calls()
    calls.failure = CoreUnreachable("Redis does not answer", fix="start it")

    async def scenario() -> list[list[Receipt] | BaseException]:
        funnel = Funnel(calls)
        calls.go_on.clear()
        crowd = [asyncio.create_task(funnel.emit([event(str(n))])) for n in range(3 * CALL_EVENTS)]
        await asyncio.sleep(0.02)
        calls.go_on.set()
        answers = await asyncio.gather(*crowd, return_exceptions=True)
        calls.failure = None
        answers.append(await funnel.emit([event("later")]))
        await funnel.close()
        return answers

    *refused, later = asyncio.run(scenario())

    assert {(CoreUnreachable, "start it")} == {(type(one), getattr(one, "fix", "")) for one in refused}
    assert len(refused) == len({id(one) for one in refused})
    assert [receipt(event("later"))] == later
    assert 2 == len(calls.calls)


def test_a_fault_reaches_every_request_of_the_call_and_the_funnel_goes_on():
    calls = Calls()
    calls.failure = RuntimeError("unforeseen")

    async def scenario() -> list[Receipt]:
        funnel = Funnel(calls)
        with pytest.raises(RuntimeError):
            await funnel.emit([event("a")])
        calls.failure = None
        answer = await funnel.emit([event("b")])
        await funnel.close()
        return answer

    assert [receipt(event("b"))] == asyncio.run(scenario())


def test_a_sender_that_hangs_up_changes_nothing_for_the_others():
    calls = Calls()

    async def scenario() -> list[Receipt]:
        funnel = Funnel(calls)
        calls.go_on.clear()
        gone = asyncio.create_task(funnel.emit([event("gone")]))
        stays = asyncio.create_task(funnel.emit([event("stays")]))
        await asyncio.sleep(0.02)
        gone.cancel()
        calls.go_on.set()
        answer = await stays
        await funnel.close()
        return answer

    assert [receipt(event("stays"))] == asyncio.run(scenario())
    assert [["gone", "stays"]] == calls.calls


def test_what_waits_is_bounded():
    calls = Calls()

    async def scenario() -> int:
        funnel = Funnel(calls)
        calls.go_on.clear()
        crowd = [asyncio.create_task(funnel.emit([event("x")] * 100)) for _ in range(WAITING_EVENTS // 100)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await funnel.emit([event("one too many")])
        calls.go_on.set()
        await asyncio.gather(*crowd)
        assert [receipt(event("after"))] == await funnel.emit([event("after")])
        await funnel.close()
        return refused.value.status

    assert 503 == asyncio.run(scenario())
    assert max(map(len, calls.calls)) <= CALL_EVENTS


def test_closing_finishes_what_waits():
    calls = Calls()

    async def scenario() -> list[Receipt]:
        funnel = Funnel(calls)
        calls.go_on.clear()
        waits = asyncio.create_task(funnel.emit([event("last")]))
        await asyncio.sleep(0.01)
        calls.go_on.set()
        await funnel.close()
        return await waits

    assert [receipt(event("last"))] == asyncio.run(scenario())
