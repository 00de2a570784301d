"""What is emitted while Redis is away is spooled, and emitted later: once, as it was meant."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter, job_id_of
from joelclaw_tasks.errors import CoreUnreachable, InvalidEvent, SpoolFailed, UnknownEvent
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.replay import replay
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.spool import Spool
from tests.conftest import free_port

NOTED = "discovery/noted"
Away = Callable[..., Emitter]


def test_events_are_spooled_and_replayed_under_their_own_ids(away: Away, settings: Settings, store: Store):
    emitter = away()
    given = emitter.emit(NOTED, {"url": "http://a"}, id="find-1", priority="P0", source="me")
    made = emitter.emit(NOTED, {"url": "http://b"})
    assert [["spooled"], ["spooled"]] == [[job.decision for job in r.jobs] for r in (given, made)]
    assert 0 == store.snapshot()["total"]

    replayed = replay(settings)

    assert (2, 0, {"admitted": 2}, None) == (
        replayed.sent, replayed.refused, replayed.decisions, replayed.kept
    )  # fmt: skip
    first = store.inspect(job_id_of("find-1", given.jobs[0].handler))
    assert ("available", "P0") == (first["state"], first["priority"])
    assert given.jobs[0].job_id == first["id"]
    assert "available" == store.inspect(made.jobs[0].job_id)["state"]
    assert {} == replay(settings).decisions


def test_a_producer_that_was_told_spooled_and_sends_it_again_queues_it_once(
    away: Away, settings: Settings, store: Store
):
    away().emit(NOTED, {"url": "http://a"}, id="find-1")
    away().emit(NOTED, {"url": "http://a"}, id="find-1")
    Emitter.connect(settings).emit(NOTED, {"url": "http://a"}, id="find-1")
    assert {"duplicate": 2} == replay(settings).decisions
    assert 1 == store.snapshot()["total"]


def test_delays_and_expiries_count_from_the_time_of_the_emit(away: Away, settings: Settings, store: Store):
    an_hour_ago = int(time.time() * 1000) - 3_600_000
    emitter = away(now_ms=lambda: an_hour_ago)
    over = emitter.emit(NOTED, {"url": "http://a"}, delay_s=600)
    waits = emitter.emit(NOTED, {"url": "http://b"}, delay_s=7200)
    at = emitter.emit(NOTED, {"url": "http://c"}, at=datetime.now(UTC) + timedelta(hours=2))
    expired = emitter.emit(NOTED, {"url": "http://d"}, expires_s=60)
    assert {"admitted": 1, "scheduled": 2, "expired": 1} == replay(settings).decisions
    states = [store.inspect(receipt.jobs[0].job_id)["state"] for receipt in (over, waits, at)]
    assert ["available", "scheduled", "scheduled"] == states
    due_at = store.inspect(waits.jobs[0].job_id)["due_at"]
    assert an_hour_ago + 7_200_000 == due_at
    assert expired.jobs[0].handler == over.jobs[0].handler


def test_what_is_refused_when_emitted_is_not_spooled(away: Away, spool: Path):
    for bad, error in (({"name": "no/such"}, UnknownEvent), ({"delay_s": -1}, InvalidEvent)):
        with pytest.raises(error):
            away().emit_many([NewEvent(**{"name": NOTED, "data": {}, **bad})])
    assert not spool.exists()


def test_what_is_refused_on_replay_is_kept_aside_and_holds_up_nothing(
    away: Away, settings: Settings, store: Store, spool: Path
):
    away().emit(NOTED, {"url": "http://a"}, id="good")
    away().emit(NOTED, {"url": "http://b"}, id="bad")
    lines = spool.read_text().replace(
        '"name": "discovery/noted", "data": {"url": "http://b"}', '"name": "x/y", "data": {}'
    )
    hostile = [
        "{torn",
        "[]",
        "null",
        '"text"',
        '{"name": 1}',
        '{"name": "discovery/noted", "id": "i", "at_ms": 1e400}',
        '{"name": "discovery/noted", "data": 1, "id": "n", "at_ms": 99999999999999}',
        "[" * 5000,
    ]
    spool.write_text(lines + "\n".join(hostile))

    replayed = replay(settings)

    assert (1, 1 + len(hostile)) == (replayed.sent, replayed.refused)
    assert {"admitted": 1} == replayed.decisions
    kept = [json.loads(line) for line in Path(replayed.kept).read_text().splitlines()]
    assert kept[0]["reason"].startswith("EVENT_UNKNOWN: ")
    assert hostile == [entry["line"] for entry in kept[1:]]
    assert not [entry for entry in kept if "Traceback" in entry["reason"] or not entry["reason"]]
    assert 0 == replay(settings).sent

    # Once the cause is mended it is taken back.
    known = Path(replayed.kept)
    known.write_text(known.read_text().replace("x/y", NOTED))
    again = replay(settings, again=True)
    assert (1, {"admitted": 1}) == (again.sent, again.decisions)
    assert 2 == store.snapshot()["total"]


def test_an_event_that_redis_may_have_done_and_forgotten_is_kept_aside_until_somebody_insists(
    away: Away, settings: Settings, store: Store
):
    two_days_ago = int(time.time() * 1000) - 2 * 86_400_000
    away(now_ms=lambda: two_days_ago).emit(NOTED, {"url": "http://a"}, id="old")
    replayed = replay(settings)
    assert (0, 1) == (replayed.sent, replayed.refused)
    assert "may have been done and forgotten" in Path(replayed.kept).read_text()
    assert 0 == store.snapshot()["total"]

    again = replay(settings, again=True)
    assert (1, 0, None) == (again.sent, again.refused, again.kept)
    assert 1 == store.snapshot()["total"]


def test_replays_at_once_emit_every_event_once(away: Away, settings: Settings, store: Store):
    away().emit_many([NewEvent(NOTED, {"url": f"http://{n}"}) for n in range(600)])
    done = []
    threads = [threading.Thread(target=lambda: done.append(replay(settings))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.append(replay(settings))
    assert 600 == sum(replayed.sent for replayed in done)
    assert {"admitted": 600} == next(r.decisions for r in done if r.sent)
    assert 600 == store.snapshot()["total"]


def test_a_replay_while_redis_is_still_away_says_so_and_keeps_everything(
    away: Away, settings: Settings, spool: Path
):
    away().emit(NOTED, {"url": "http://a"})
    with pytest.raises(CoreUnreachable):
        replay(replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    assert Spool(spool).has_lines()
    assert 1 == replay(settings).sent


def test_a_spool_that_cannot_be_written_is_an_error_that_names_it(settings: Settings, tmp_path: Path):
    elsewhere = replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0", spool=tmp_path)
    with pytest.raises(SpoolFailed, match="cannot be written: Is a directory") as refused:
        Emitter.connect(elsewhere).emit(NOTED, {"url": "http://a"})
    assert "JOELCLAW_SPOOL" in refused.value.fix


def test_while_redis_answers_nothing_is_spooled(settings: Settings, spool: Path):
    receipt = Emitter.connect(settings).emit(NOTED, {"url": "http://a"})
    assert ["admitted"] == [job.decision for job in receipt.jobs]
    assert not spool.exists()


def test_without_any_redis_known_everything_is_spooled(settings: Settings):
    receipt = Emitter.connect(replace(settings, redis_url=None)).emit(NOTED, {"url": "http://a"})
    assert ["spooled"] == [job.decision for job in receipt.jobs]
    assert 1 == replay(settings).sent


def test_a_redis_that_is_full_is_as_good_as_away(settings: Settings, store: Store, spool: Path):
    store.client.config_set("maxmemory", "1")
    try:
        receipt = Emitter.connect(settings).emit(NOTED, {"url": "http://a"})
    finally:
        store.client.config_set("maxmemory", "0")
    assert ["spooled"] == [job.decision for job in receipt.jobs]
    assert {"admitted": 1} == replay(settings).decisions
