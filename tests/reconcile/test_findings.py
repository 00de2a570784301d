"""What is a finding and what is none, and that nothing is mended by halves."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from celery.backends.base import Backend

from joelclaw_tasks.errors import CoreUnreachable, RegistryError
from joelclaw_tasks.replay import replay
from joelclaw_tasks.sent_log import Sent, SentLog
from joelclaw_tasks.steering import ended_jobs
from tests.reconcile.conftest import Near
from tests.reconcile.note_app import make_app

DAY_MS = 86_400_000


def an_hour_ago() -> int:
    return int(time.time() * 1000) - 3_600_000


def test_where_nothing_is_lost_nothing_is_found(near: Near):
    near.emit_while_away("a", "b")
    replay(near.settings)
    near.admit("c")
    done = near.queue.reconcile(app=near.app)
    assert ([], [], 0) == (done.findings, done.unchecked, done.mendable)
    assert {"waiting": 0, "sent": 2, "jobs": 3, "results": 0, "entries": 3} == done.looked_at
    assert {} == near.found(apply=True)
    assert 3 == near.store.history.extent().length


# -- results ----------------------------------------------------------------------------------


def test_the_result_of_an_earlier_job_of_the_same_id_is_none_of_this_one(near: Near):
    near.store_result("again")
    time.sleep(0.002)
    near.admit("again")
    assert {} == near.found(apply=True)
    assert "available" == near.state("again")


def test_what_failed_and_was_revived_is_to_run(near: Near):
    near.admit("failed")
    near.store_result("failed", "FAILURE")
    [claimed] = near.store.claim(["notes"], 1, "w1").jobs
    near.store.discard(claimed.tag, "no")
    time.sleep(0.002)
    near.queue.revive("failed")
    assert {} == near.found(apply=True)
    assert "available" == near.state("failed")


def test_a_worker_that_is_about_to_tell_of_the_end_is_given_the_time(
    near: Near, monkeypatch: pytest.MonkeyPatch
):
    near.admit("ends", "ended")
    tags = [one.tag for one in near.store.claim(["notes"], 2, "w1").jobs]
    near.store_result("ends")
    near.store_result("ended")

    def meanwhile(seconds: float) -> None:
        assert 1.0 == seconds
        near.store.complete([tag for tag in tags if tag.startswith("ends#")])

    monkeypatch.setattr(ended_jobs.time, "sleep", meanwhile)
    assert {"ran": 1} == near.found()
    assert "executing" == near.state("ended")


def test_a_result_whose_job_waits_for_its_time_or_in_the_parking_lot_counts_as_well(near: Near):
    near.admit("due", due_ms=near.store.now_ms() + 60_000)
    near.admit("shed")
    near.queue.shed("shed")
    time.sleep(0.002)
    near.store_result("due")
    near.store_result("shed")
    assert {"ran": 2} == near.found(apply=True)
    assert [None, None] == [near.state("due"), near.state("shed")]
    assert [] == near.faults()


def test_what_was_cancelled_comes_back_by_undo(near: Near):
    near.admit("a", "b")
    time.sleep(0.002)
    near.store_result("a")
    near.store_result("b")
    done = near.queue.reconcile(app=near.app, apply=True, reason="power cut")
    [control] = done.cancelled
    act = next(act for act in near.queue.acts() if act.id == control)
    told = ("cancel", "ran already (SUCCESS)", "ann", "its result says SUCCESS: power cut")
    assert told == (act.verb, act.target, act.actor, act.reason)
    assert 2 == near.queue.undo().jobs
    assert ["available"] * 2 == [near.state("a"), near.state("b")]
    assert [] == near.faults()


def test_results_that_make_no_sense_are_counted_and_harm_nothing(near: Near):
    near.spool.touch()
    near.admit("a", "b", "c", "d")
    client, key = near.app.backend.client, near.app.backend.get_key_for_task
    client.set(key("a"), b"\xff\x00 no json")
    client.set(key("b"), "[1, 2]")
    client.set(key("c"), '{"status": "SUCCESS", "date_done": "yesterday"}')
    client.set(key("d"), '{"status": {"a": 1}, "date_done": null}')
    done = near.queue.reconcile(app=near.app, apply=True)
    assert ([], ["results: 3 cannot be read"]) == (done.findings, done.unchecked)
    assert 4 == near.store.snapshot()["total"]


class Rows(Backend):
    """A backend that is asked for one result at a time, as those on databases are."""

    rows = {}  # noqa: RUF012

    def _get_task_meta_for(self, task_id: str) -> dict:
        return self.meta_from_decoded(self.rows.get(task_id) or {"status": "PENDING", "result": None})


def test_any_result_backend_is_asked_in_its_own_way(near: Near, tmp_path: Path):
    near.spool.touch()
    near.admit("a", "b")
    time.sleep(0.002)
    app = make_app(near.url, f"file://{tmp_path}")
    app.backend.store_result("a", 1, "SUCCESS")
    assert [("ran", 1)] == [(each.kind, each.count) for each in near.queue.reconcile(app=app).findings]
    app.close()

    app = make_app(near.url, f"{__name__}:Rows")
    app.backend.rows["b"] = {"status": "SUCCESS", "result": 1, "date_done": "2999-01-01T00:00:00"}
    [found] = near.queue.reconcile(app=app).findings
    assert ("ran", "b") == (found.kind, found.sample[0]["id"])
    app.close()

    app = make_app(near.url, "disabled://")
    assert ["results: this app keeps none"] == near.queue.reconcile(app=app).unchecked
    app.close()


def test_results_that_cannot_be_asked_for_end_it_before_anything_is_done(near: Near):
    near.emit_while_away("waits")
    near.admit("a")
    app = make_app(near.url, "redis://user:geheim@127.0.0.1:1/0")
    with pytest.raises(CoreUnreachable, match="the results do not answer: ConnectionError") as caught:
        near.queue.reconcile(app=app, apply=True)
    assert "geheim" not in str(caught.value)
    assert 1 == near.store.snapshot()["total"]
    app.close()


# -- spools -----------------------------------------------------------------------------------


def test_what_became_part_of_a_batch_or_was_dropped_on_purpose_is_not_lost(near: Near, tmp_path: Path):
    handlers = [
        {"name": name, "type": "task", "target": "note_app:handle", "queue": "notes", **more}
        for name, more in (
            ("note.batch", {"batch": {"size": 9, "max_wait_s": 60}}),
            ("note.once", {"throttle": {"window_s": 60}}),
        )
    ]
    file = tmp_path / "registry" / "events" / "note-written.json"
    event = {"name": "note/written", "description": "A note.", "priority": "P1", "handlers": handlers}
    file.write_text(json.dumps(event))
    near.emit_while_away("a", "b")
    assert {"batched": 2, "admitted": 1, "throttled": 1} == replay(near.settings).decisions
    assert {} == near.found()

    near.lose_all()
    assert {"lost": 2} == near.found(apply=True)
    assert {} == near.found()
    assert 2 == near.store.snapshot()["total"]


def test_what_expired_meanwhile_or_is_unknown_by_now_is_told_and_not_sent(near: Near, tmp_path: Path):
    near.emit_while_away("late", expires_s=4_000, now_ms=an_hour_ago)
    near.emit_while_away("fine")
    replay(near.settings)
    near.lose_all()
    log = SentLog(near.spool, DAY_MS)
    [late, fine] = [sent for _, _, sent in log.read()]
    log.note([Sent(late.sent_at, late.jobs, late.line.replace(b"4000", b"3000"))])
    log.note([Sent(fine.sent_at, ("x",), fine.line.replace(b"fine", b"odd").replace(b"note/", b"gone/"))])

    done = near.queue.reconcile(app=near.app, apply=True)

    assert [("lost", 1, 1), ("untold", 2, 0)] == [(e.kind, e.count, e.mended) for e in done.findings]
    reasons = {each["event"]: each["reason"] for each in done.findings[1].sample}
    assert "it has expired meanwhile" in reasons["late"]
    assert reasons["odd"].startswith("EVENT_UNKNOWN: ")
    assert 1 == near.store.snapshot()["total"]


def test_what_redis_may_have_done_and_forgotten_is_not_sent_again(near: Near):
    near.emit_while_away("old", now_ms=lambda: int(time.time() * 1000) - DAY_MS + 70_000)
    replay(near.settings)
    near.lose_all()
    assert {"lost": 1} == near.found()
    [(_, _, sent)] = SentLog(near.spool, DAY_MS).read()
    at_ms = int(time.time() * 1000) - DAY_MS + 50_000
    line = json.loads(sent.line) | {"at_ms": at_ms}
    SentLog(near.spool, DAY_MS).note([Sent(sent.sent_at, sent.jobs, json.dumps(line).encode())])
    done = near.queue.reconcile(app=near.app, apply=True)
    why = "sent: 1 events are so old that Redis may have forgotten that they are done"
    assert ([], [why]) == (done.findings, done.unchecked)


def test_several_spools_are_read_and_each_remembers_its_own(near: Near, tmp_path: Path):
    near.emit_while_away("a")
    replay(near.settings)
    other = tmp_path / "other.jsonl"
    near.spool.with_name("spool.jsonl.sent").rename(other.with_name("other.jsonl.sent"))
    near.emit_while_away("b")
    replay(near.settings)
    near.lose_all()
    assert {"lost": 1} == near.found()
    assert {"lost": 2} == near.found(spools=[near.spool, other, near.spool], apply=True)
    assert ([2, 2], {}) == (
        [len(list(SentLog(path, DAY_MS).read())) for path in (near.spool, other)],
        near.found(),
    )


def test_a_spool_that_was_never_here_is_told_and_one_that_was_sent_whole_is_not(near: Near, tmp_path: Path):
    mistyped = near.spool.with_name(near.spool.name[:-1])
    near.emit_while_away("a")
    done = near.queue.reconcile(app=near.app, spools=[near.spool, mistyped, tmp_path / "no" / "folder"])
    none_at = [f"spool: there is none at {path}" for path in (mistyped, tmp_path / "no" / "folder")]
    assert (none_at, False) == (done.unchecked, mistyped.exists())
    replay(near.settings)
    SentLog(near.spool, 0).forget(near.store.now_ms() + 60_000)
    done = near.queue.reconcile(app=near.app)
    assert ([], 0) == (done.unchecked, done.looked_at["sent"])


GARBAGE = (
    b"\x00\xff\xfe no json at all\n"
    b"{}\n"
    b'{"id": 5, "name": "note/written", "data": {}, "at_ms": 1}\n'
    b'{"id": "x", "name": "note/written", "data": {}, "at_ms": 1e999}\n'
    + b"[" * 100_000
    + b"\n"
    + b'{"sent_at": 99999999999999999999, "jobs": ["a"], "line": "x"}\n'
    b'{"sent_at": 1, "jobs": ["a\\ud800"], "line": "x"}\n'
    b'{"sent_at": 1, "jobs": "abc", "line": "{}"}\n'
    b'{"sent_at": 1, "jobs": [], "line": "\\ud800"}\n'
    b'{"sent_at": 1, "jobs": []'
)


def test_garbage_in_every_file_of_a_spool_is_reported_line_by_line_and_the_rest_is_mended(near: Near):
    near.emit_while_away("sent")
    replay(near.settings)
    near.lose_all()
    near.emit_while_away("waits")
    for ending in ("", ".sent"):
        with near.spool.with_name(near.spool.name + ending).open("ab") as file:
            file.write(GARBAGE)
    near.spool.with_name(near.spool.name + ".refused").write_bytes(GARBAGE)
    lines = GARBAGE.count(b"\n") + 1

    done = near.queue.reconcile(app=near.app)
    counts = {each.kind: each.count for each in done.findings}
    assert {"waiting": 1, "lost": 1, "refused": lines, "unreadable": 2 * lines} == counts
    assert 0 == near.store.snapshot()["total"]

    assert {"waiting": 1, "lost": 1, "refused": 0, "unreadable": 0} == near.found(apply=True)
    # What waited and could not be read is kept aside, as by every replay.
    assert {"refused": 2 * lines, "unreadable": lines} == near.found()
    assert 2 == near.store.snapshot()["total"]


@pytest.mark.parametrize("kind", ["directory", "pipe", "device", "closed"])
def test_what_is_no_file_is_reported_and_left_alone(near: Near, tmp_path: Path, kind: str):
    path = tmp_path / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/null")
    else:
        path.symlink_to(path)
    done = near.queue.reconcile(app=near.app, spools=[path], apply=True)
    assert [("unreadable", str(path))] == [(e.kind, e.sample[0]["file"]) for e in done.findings]
    assert (None, 0) == (done.control, near.store.history.extent().length)


def test_a_line_without_end_does_not_fill_the_memory(near: Near, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("joelclaw_tasks.spool_files.LONGEST_LINE", 1_000)
    near.emit_while_away("before")
    with near.spool.open("ab") as file:
        file.write(b"x" * 5_500 + b"\n")
    near.emit_while_away("after")
    assert {"waiting": 2, "unreadable": 1} == near.found()


def test_a_registry_with_faults_ends_it_only_when_events_must_be_sent(near: Near, tmp_path: Path):
    near.emit_while_away("a")
    replay(near.settings)
    (tmp_path / "registry" / "events" / "bad.json").write_text("{")
    assert {} == near.found(apply=True)
    near.lose_all()
    with pytest.raises(RegistryError):
        near.queue.reconcile(app=near.app, apply=True)
    assert 0 == near.store.history.extent().length


# -- the stream -------------------------------------------------------------------------------


def test_a_job_without_a_record_is_named_unless_a_spool_or_a_result_tells_of_it(near: Near):
    [spooled] = near.emit_while_away("spooled")
    replay(near.settings)
    near.admit("a", "ended", "done")
    near.store.cancel(["done"], actor="ann", reason="")
    time.sleep(0.002)
    near.store_result("ended")
    for job_id in ("a", "ended", spooled.jobs[0].job_id):
        near.client.delete(near.store.keys.job(job_id))

    done = near.queue.reconcile(app=near.app)

    assert [("lost", 1), ("gone", 1)] == [(each.kind, each.count) for each in done.findings]
    assert ("a", "note", "available") == tuple(
        done.findings[1].sample[0][name] for name in ("id", "family", "state")
    )


# -- mending ----------------------------------------------------------------------------------


def test_one_that_is_stopped_half_way_says_so_and_the_next_does_the_rest(near: Near):
    near.emit_while_away(*(f"e{n}" for n in range(700)))
    replay(near.settings)
    near.lose_all()
    steps: list[str] = []

    def stop() -> bool:
        return any("again" in step for step in steps)

    done = near.queue.reconcile(app=near.app, apply=True, on_progress=steps.append, stop=stop)
    [lost] = done.findings
    assert (True, 700, 500) == (done.interrupted, lost.count, lost.mended)
    assert 500 == near.store.snapshot()["total"]

    assert {"lost": 200} == near.found(apply=True)
    assert {} == near.found(apply=True)
    assert 700 == near.store.snapshot()["total"]


def test_one_that_is_stopped_while_it_looks_changes_nothing(near: Near):
    near.emit_while_away("waits")
    done = near.queue.reconcile(app=near.app, apply=True, stop=lambda: True)
    assert (True, None, 0) == (done.interrupted, done.control, near.store.history.extent().length)


def test_two_at_once_mend_everything_once(near: Near):
    near.emit_while_away(*(f"e{n}" for n in range(600)))
    replay(near.settings)
    near.lose_all()
    near.admit(*(f"ran{n}" for n in range(300)))
    time.sleep(0.002)
    for n in range(300):
        near.store_result(f"ran{n}")
    near.emit_while_away(*(f"w{n}" for n in range(100)))
    both = threading.Barrier(2)
    errors: list[BaseException] = []

    def mend() -> None:
        try:
            both.wait()
            near.queue.reconcile(app=near.app, apply=True)
        except BaseException as error:  # noqa: BLE001  # the test tells of it
            errors.append(error)

    threads = [threading.Thread(target=mend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ([], {}) == (errors, near.found())
    moved = [(entry.job, entry.to_state) for entry in near.store.history.read() if entry.to_state]
    assert len(set(moved)) == len(moved) == 600 + 100 + 300 * 2
    assert 700 == near.store.snapshot()["total"]
    assert [] == near.faults()
