"""Workers that require signatures run what was signed, where it was signed for, and nothing else."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import kombu.pools
import pytest
from celery import chain, chord, group
from stranger_app import add_router, make_app
from test_router import EVENT
from workers import POOLS, Site, close_app

from joelclaw_tasks.broker.holder import end_holder
from joelclaw_tasks.broker.jobs import COUNTDOWN_PROPERTY, job_of
from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.signing import Signing
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.new_event import NewEvent
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until

KEY = "the key of this week"
SLACK_MS = (0, 60_000, 300_000, 900_000)


@pytest.fixture(autouse=True)
def fresh_connections() -> Iterator[None]:
    """Kombu keeps connections for the whole process, and a channel reads the environment once."""
    kombu.pools.reset()
    yield
    kombu.pools.reset()


@pytest.fixture
def signed(own: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose producers sign, and whose workers require it."""
    monkeypatch.setenv("JOELCLAW_SIGNING_KEY", KEY)
    monkeypatch.setenv("JOELCLAW_REQUIRE_SIGNED", "1")
    return own


@pytest.fixture
def stock(own: Site) -> Iterator:
    """An app of the same broker, without the admission layer and without a key."""
    app = make_app(own.url, installed=False)
    yield app
    close_app(app)


def key() -> str:
    return f"k{uuid.uuid4()}"


def payload_of(site: Site, job_id: str) -> str:
    return site.client.hget(site.store.keys.job(job_id), "payload")


def forge(site: Site, payload: str, **fields) -> str:
    """Admit a message as somebody does who may call the script, but has no key."""
    job = job_of("stranger", json.loads(payload), payload, SLACK_MS)
    values = {name: getattr(job, name) for name in Job.__slots__}
    assert [Word.ADMITTED] == site.store.admit([Job(**{**values, **fields})])
    return fields.get("id", job.id)


def refused(site: Site, job_id: str, says: str) -> None:
    dead = site.wait_dead(job_id)
    assert says in dead["error"]
    assert dead["signature"].startswith("NotSigned-")


# -- what is signed runs ---------------------------------------------------------------------------


@pytest.mark.parametrize("pool", POOLS)
def test_all_that_celery_does_with_calls_is_signed(signed: Site, pool: str):
    signed.start(pool).wait_ready()
    add, total, where = signed.add, signed.total, key()

    assert 3 == add.delay(1, 2).get(timeout=20)
    assert 111 == chain(add.s(1, 10), add.s(100)).delay().get(timeout=20)
    assert [2, 4] == group(add.s(n, n) for n in (1, 2)).delay().get(timeout=20)
    assert 6 == chord([add.s(n, n) for n in (1, 2)], total.s()).delay().get(timeout=20)
    assert 2 == signed.flaky.delay(2).get(timeout=20)
    assert 1001 == signed.replaced.delay(1).get(timeout=20)
    assert 6 == signed.replaced_by_chord.delay(3).get(timeout=20)
    assert 3 == signed.fan_out.delay(3, where).get(timeout=20)
    assert 5 == add.apply_async((2, 3), countdown=0.2).get(timeout=20)
    wait_until(lambda: 3 == len(signed.effects(where)), "what a task sent has run")
    signed.wait_idle()
    assert {} == signed.states()


def test_what_is_merged_by_rules_is_signed(signed: Site):
    signed.start("threads").wait_ready()
    where, together = key(), key()
    for number in range(4):
        signed.latest.delay(where, number)
    ids = [signed.together.delay(together, value).id for value in ("a", "bad", "worse", "d")]
    for _ in range(2):
        signed.once.delay(where, where)

    wait_until(lambda: {"3", where} == set(signed.effects(where)), "the last of the debounce, and one", 15)
    wait_until(lambda: ["a,bad,worse,d", "bad"] == signed.effects(together), "the batch, and one alone", 15)
    assert {"bad one", "PermanentFailure: worse"} == {
        signed.wait_dead(ids[n])["error"].removeprefix("ValueError: ") for n in (1, 2)
    }
    assert "batch" not in json.dumps(signed.store.dead.groups())


def test_a_job_is_retried_discarded_and_revived_under_its_signature(signed: Site):
    signed.start("threads").wait_ready()
    switch = key()
    result = signed.mended.delay(switch, 7)
    assert "ZeroDivisionError" in signed.wait_dead(result.id)["error"]

    signed.client.set(switch, "1")
    assert [Word.REVIVED] == signed.store.revive([result.id], actor="ada", reason="fixed")

    signed.wait_gone(result.id)
    assert ["0", "1", "0"] == signed.effects(switch + ":tries")


def test_a_job_whose_worker_died_runs_again(signed: Site):
    signed.start("prefork").wait_ready()
    assert 2 == signed.dies.delay(key(), 1).get(timeout=30)


@pytest.fixture
def emitter(signed: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Emitter:
    handler = {**EVENT["handlers"][0], "resources": [], "debounce": {"key": "data.to", "wait_s": 0.5}}
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "mail-received.json").write_text(json.dumps({**EVENT, "handlers": [handler]}))
    monkeypatch.setenv("STRANGER_REGISTRY", str(tmp_path))
    add_router(signed.app, str(tmp_path))
    settings = Settings.load({"REDIS_URL": signed.url, "JOELCLAW_SIGNING_KEY": KEY})
    return Emitter(settings, Registry.load(tmp_path), Emitter.connect(settings).store)


def test_events_are_signed_by_emit(signed: Site, emitter: Emitter):
    first = emitter.emit("mail/received", {"to": "ann"}, id="first")
    emitter.emit_many([NewEvent("mail/received", {"to": name}, id=name) for name in ("bob", "eve")])
    second = emitter.emit("mail/received", {"to": "ann"}, id="second")
    assert first.jobs[0].job_id == second.jobs[0].into
    signed.start("threads", queues="io").wait_ready()

    wait_until(lambda: {"ann", "bob", "eve"} == set(signed.effects("mail")), "each was sent once", 20)
    signed.wait_idle()
    assert {} == signed.states()
    assert 3 == len(signed.effects("mail"))


# -- what is not signed does not -------------------------------------------------------------------


def test_a_call_of_a_stock_producer_is_refused_and_stays_in_the_dead_letter(signed: Site, stock):
    worker = signed.start("threads").wait_ready()
    where = key()
    call = stock.tasks["note"].delay(where, "forged")

    refused(signed, call.id, "not signed")
    assert [Word.REVIVED] == signed.store.revive([call.id], actor="t", reason="try again")
    wait_until(lambda: 2 == worker.log.count("is not run: the message is not signed"), "it is refused again")
    refused(signed, call.id, "not signed")
    assert "note" == signed.store.dead.groups()[0]["place"]
    signed.note.delay(where, "signed")
    wait_until(lambda: ["signed"] == signed.effects(where), "the worker goes on")
    wait_until(lambda: {} == signed.leases(), "nothing is leased")
    assert KEY not in worker.log


def test_messages_that_somebody_changed_in_redis_are_refused(signed: Site):
    where = key()
    others = signed.note.apply_async((where, "other"), countdown=600)
    texts = {
        "arguments": lambda text: text.replace(json.loads(text)["body"], json.loads(forged)["body"]),
        "task": lambda text: text.replace('"task": "note"', '"task": "stamp"'),
        "headers": lambda text: text.replace('"timelimit": [null, null]', '"timelimit": [1, 1]'),
        "of another": lambda _: payload_of(signed, others.id),
        "cut": lambda text: text[:-85] + "}",
        "not JSON": lambda text: text[:50],
        "a batch": lambda text: '{"jc_batch":[' + text + "]}",
        "a broken batch": lambda text: '{"jc_batch":[' + text,
        "empty": lambda _: "",
    }
    jobs = {name: signed.note.delay(where, name) for name in texts}
    forged = payload_of(signed, jobs["cut"].id)
    for name, change in texts.items():
        text = payload_of(signed, jobs[name].id)
        assert text != change(text), name
        signed.client.hset(signed.store.keys.job(jobs[name].id), "payload", change(text))
    whole = signed.note.delay(where, "whole")
    signed.start("threads").wait_ready()

    for name, job in jobs.items():
        dead = signed.wait_dead(job.id)
        assert dead["signature"].startswith("NotSigned-"), name
    signed.wait_gone(whole.id)
    assert ["whole"] == signed.effects(where)
    assert {"discarded": len(jobs), "scheduled": 1} == signed.states()


def test_a_call_that_is_signed_with_another_key_is_refused(signed: Site):
    call = signed.add.apply_async((1, 1), countdown=600)
    message = json.loads(payload_of(signed, call.id))
    del message["jc_signature"]
    message["headers"]["id"], message["headers"]["eta"] = "forged", None
    del message["properties"][COUNTDOWN_PROPERTY]
    job = job_of("stranger", message, json.dumps(message), SLACK_MS)
    Signing("a key of somebody else", None, required=False).sign(job)
    signed.store.admit([job])
    signed.start("threads").wait_ready()
    refused(signed, "forged", "does not fit")


# -- nor where it was not signed for ---------------------------------------------------------------


def test_a_signed_message_is_not_run_from_another_queue_or_under_another_id(signed: Site):
    where = key()
    call = signed.note.apply_async((where, "once"), countdown=600)
    text = payload_of(signed, call.id)
    signed.store.cancel([call.id], actor="t", reason="")
    forge(signed, text, id="elsewhere", queue="other", lane="other|note|", due_ms=0)
    forge(signed, text, id="twice", due_ms=0)
    signed.start("threads", queues="stranger,other").wait_ready()

    refused(signed, "elsewhere", "queue (other)")
    refused(signed, "twice", "another id")
    assert [] == signed.effects(where)


def test_work_that_was_admitted_past_its_limit_is_put_behind_it(signed: Site):
    where = key()
    calls = [signed.alone.apply_async((where, n), countdown=600) for n in range(6)]
    texts = [payload_of(signed, call.id) for call in calls]
    signed.store.cancel([call.id for call in calls], actor="t", reason="")
    for number, text in enumerate(texts):
        # Each in a lane of its own without gates; and of a family that nobody has paused.
        forge(signed, text, lane=f"stranger|alone|{number}", gates=(), due_ms=0, family="free")
    signed.store.pause("pause:family/alone", actor="ada", reason="not now")
    worker = signed.start("threads").wait_ready()

    wait_until(
        lambda: (
            6 == worker.log.count("admitted elsewhere than it was signed for")
            and {"available": 6} == signed.states()
        ),
        "all were put back",
    )
    assert {"alone"} == {signed.job(call.id)["family"] for call in calls}
    assert [] == signed.effects(where)
    signed.store.resume("pause:family/alone", actor="ada")
    wait_until(lambda: 6 == len(signed.effects(where)), "they ran", 20)
    assert ["1"] * 6 == signed.effects(where)  # never two at once
    signed.wait_idle()


def test_a_forged_call_does_not_take_the_limit_away_from_its_lane(signed: Site):
    where = key()
    calls = [signed.alone.delay(where, n) for n in range(4)]
    lane = signed.job(calls[0].id)["lane"]
    text = payload_of(signed, calls[0].id)
    forge(signed, text, id="forged", gates=())
    assert "" == signed.client.hget(signed.store.keys.lane_meta(lane), "gates")
    signed.start("threads").wait_ready()

    refused(signed, "forged", "another id")
    wait_until(lambda: 4 == len(signed.effects(where)), "they ran", 20)
    assert ["1"] * 4 == signed.effects(where)
    signed.wait_idle()


def test_a_gate_that_bounds_nothing_any_more_holds_nobody_up(signed: Site):
    call = signed.alone.delay(key(), 1)
    [gate] = signed.job(call.id)["gates"]
    signed.client.hset(signed.store.keys.lane_meta(signed.job(call.id)["lane"]), "gates", "")
    with signed.app.connection_for_write() as connection:
        channel = connection.default_channel
        signed.store.limit({gate.partition("=")[0]: 1}, actor="registry:stranger", reason="")
        assert channel.basic_get("stranger") is None
        job = signed.job(call.id)
        assert ("available", [gate]) == (job["state"], job["gates"])
        signed.client.hset(signed.store.keys.lane_meta(job["lane"]), "gates", "")
        signed.store.limit({}, actor="registry:stranger", reason="it declares none")

        message = channel.basic_get("stranger")
        assert call.id == message.headers["id"]
        message.ack()
        signed.wait_gone(call.id)
        end_holder(channel.holder)  # it would look after the workers of later tests


# -- keys --------------------------------------------------------------------------------------------


def test_keys_are_rotated_without_a_restart(own: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, where = tmp_path / "keys", key()
    file.write_text("the key of monday\n")
    monkeypatch.setenv("JOELCLAW_SIGNING_KEY_FILE", str(file))
    monkeypatch.setenv("JOELCLAW_REQUIRE_SIGNED", "1")
    worker = own.start("threads").wait_ready()
    late = own.note.apply_async((where, "of monday"), countdown=2)
    assert 2 == own.add.delay(1, 1).get(timeout=10)

    file.write_text("the key of friday\nthe key of monday\n")
    friday = Signing("the key of friday", None, required=True)

    def signs_with_friday() -> bool:
        call = own.add.apply_async((1, 1), countdown=600)
        text = payload_of(own, call.id)
        own.store.cancel([call.id], actor="t", reason="")
        return not friday.fault("stranger", text.encode())

    wait_until(signs_with_friday, "the producer signs with the new key")
    assert 4 == own.add.delay(2, 2).get(timeout=10)
    assert 2 == own.flaky.delay(2).get(timeout=10)
    own.wait_gone(late.id)
    assert ["of monday"] == own.effects(where)  # signed before, run after

    stays = own.note.apply_async((where, "too old"), countdown=600)
    text = payload_of(own, stays.id)
    file.write_text("the key of saturday\n")

    def knows() -> bool:
        own.add.delay(1, 1)
        return worker.log.count("has changed") == 2

    wait_until(knows, "the worker has read the file again", 15)
    own.store.stage([stays.id], actor="t", reason="", target="it")
    refused(own, stays.id, "does not fit")
    assert payload_of(own, stays.id) == text
    assert ["of monday"] == own.effects(where)
    assert not [day for day in ("monday", "friday", "saturday") if f"key of {day}" in worker.log]


def test_workers_that_only_sign_run_what_is_not_signed(own: Site, stock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOELCLAW_SIGNING_KEY", KEY)
    own.start("threads").wait_ready()
    assert 2 == stock.tasks["add"].delay(1, 1).get(timeout=10)
    assert 2 == own.add.delay(1, 1).get(timeout=10)
    later = own.add.apply_async((1, 1), countdown=600)
    assert "" == Signing(KEY, None, required=True).fault("stranger", payload_of(own, later.id).encode())


def test_without_a_key_nothing_is_signed(own: Site):
    call = own.add.delay(1, 1)
    assert "jc_signature" not in payload_of(own, call.id)


def test_a_worker_without_a_key_that_requires_one_does_not_start(own: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOELCLAW_REQUIRE_SIGNED", "1")
    worker = own.start("threads")
    assert 1 == worker.wait_end()
    assert "there is no signing key" in worker.log
    assert "JOELCLAW_SIGNING_KEY_FILE" in worker.log
