"""Redis comes back without its last: what a spool handed in is done, what has ended does not run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery import Celery, chain

from joelclaw_tasks.replay import replay
from tests.reconcile.conftest import Site
from tests.reconcile.note_app import make_app

FLEET = "joelclaw_tasks"


@contextmanager
def shop(site: Site) -> Iterator[Celery]:
    app = make_app(site.url, site.results)
    yield app
    app.close()
    app.backend.client.close()


def ids_of(receipts) -> list[str]:
    return [receipt.jobs[0].job_id for receipt in receipts]


def test_what_was_accepted_through_a_spool_ends_once_although_redis_lost_it(site: Site):
    done = site.emit_while_away("done-1", "done-2")
    replay(site.settings)
    site.work(FLEET, 2)
    kept = site.emit_while_away("kept")
    replay(site.settings)
    site.remember()
    ran = site.emit_while_away("ran")
    replay(site.settings)
    site.work(FLEET, 4)
    lost = site.emit_while_away("lost-1", "lost-2", "lost-3")
    replay(site.settings)
    waiting = site.emit_while_away("waiting")
    site.lose_tail()
    before = site.image()

    seen = site.reconcile()

    assert {"waiting": 1, "lost": 4} == seen["found"]
    assert (False, None, {}) == (seen["applied"], seen["control"], seen["mended"])
    assert {"lost-1", "lost-2", "lost-3", "ran"} == {each["event"] for each in site.sample(seen, "lost")}
    assert before == site.image()

    mended = site.reconcile("--apply", "--reason", "power cut", "--actor", "ann")
    assert {"waiting": 1, "lost": 4} == mended["found"] == mended["mended"]
    after = site.image()
    assert {} == site.reconcile("--apply")["found"]
    assert after == site.image()

    site.work(FLEET, 4 + 6)
    jobs = ids_of([*done, *kept, *ran, *lost, *waiting])
    assert dict.fromkeys(jobs, 1) == {job: site.finishes(job) for job in jobs}
    assert {"completed"} == {site.state(job) for job in jobs}
    # What ran in the lost second left no trace but its effect: that is the limit of it.
    twice = {"ran": 2, "kept": 2}
    assert Counter({each.event_id: 1 for each in [*done, *lost, *waiting]} | twice) == Counter(site.did())
    assert [] == site.faults()


def test_it_is_in_the_stream_before_its_effect_with_actor_and_reason(site: Site):
    site.remember()
    [lost] = site.emit_while_away("lost")
    replay(site.settings)
    site.lose_tail()

    control = site.reconcile("--apply", "--reason", "power cut", "--actor", "ann")["control"]

    first, second = site.store.history.read()
    told = [first.text(name) for name in ("verb", "actor", "reason", "target", "control")]
    assert ["reconcile", "ann", "power cut", "1 lost", control] == told
    assert ("admit", lost.jobs[0].job_id) == (second.verb, second.job)
    status = site.joelclaw("queue", "control", "status").result["control"]["recent_events"]
    assert [("reconcile", "ann", "applied")] == [(e["verb"], e["actor"], e["outcome"]) for e in status]
    undone = site.joelclaw("queue", "undo", control)
    assert (1, "QUEUE_CONTROL_OVER") == (undone.code, undone.error["code"])
    assert "available" == site.state(lost.jobs[0].job_id)


def test_jobs_whose_result_says_success_do_not_run_again(site: Site):
    with shop(site) as app:
        note = app.tasks["note"]
        ran = [note.delay(f"ran-{n}").id for n in range(3)]
        ran.append(note.apply_async(("ran-later",), countdown=1).id)
        failed = app.tasks["fail"].delay("failed").id
        site.remember()
        site.work("note_app", 5)
        site.lose_tail()
        waits = note.delay("new").id
    before = site.image()

    seen = site.reconcile("--app", "note_app")

    assert {"ran": 5} == seen["found"]
    results = {each["id"]: each["result"] for each in site.sample(seen, "ran")}
    assert {**dict.fromkeys(ran, "SUCCESS"), failed: "FAILURE"} == results
    assert (6, 5) == (seen["looked_at"]["jobs"], seen["looked_at"]["results"])
    assert before == site.image()

    mended = site.reconcile("-A", "note_app:app", "--apply")
    assert {"ran": 5} == mended["mended"]
    assert {None} == {site.state(job) for job in [*ran, failed]}
    assert {} == site.reconcile("-A", "note_app", "--apply")["found"]

    site.work("note_app", 6)
    assert [*sorted(site.did()[:5]), "new"] == ["failed", "ran-0", "ran-1", "ran-2", "ran-later", "new"]
    assert 6 == len(site.did())
    assert [1] * 6 == [site.finishes(job) for job in [*ran, failed, waits]]
    assert [] == site.faults()


def test_a_job_that_was_running_when_redis_stopped_ends_as_its_result_says(site: Site):
    with shop(site) as app:
        job = app.tasks["note"].delay("ran").id
        [claimed] = site.store.claim(["notes"], 1, "w1").jobs
        site.remember()
        app.backend.store_result(job, "ran", "SUCCESS")
        site.store.complete([claimed.tag])
        site.lose_tail()
    assert "executing" == site.state(job)

    assert {"ran": 1} == site.reconcile("-A", "note_app", "--apply")["mended"]
    site.store.expire(["w1"], reason="its worker is gone")

    assert (None, 0) == (site.state(job), site.store.snapshot()["total"])
    assert ["cancelled"] == [e.to_state for e in site.store.history.read(job=job)][-1:]
    assert [] == site.faults()


def test_a_job_whose_next_one_was_lost_too_runs_again_and_sends_it_again(site: Site):
    with shop(site) as app:
        note = app.tasks["note"]
        chain(note.si("first"), note.si("second")).apply_async()
        both = chain(note.si("begun"), note.si("ended")).apply_async()
        site.remember()
        site.work("note_app", 4)
        app.backend.delete(app.backend.get_key_for_task(both.id))
        app.backend.store_result(both.id, "ended", "SUCCESS")
        site.lose_tail()
        chained = [each["id"] for each in site.store.list_jobs()]
    assert 2 == len(chained)

    # The second of each is not in Redis any more, but it has a result: nothing is left to be sent on.
    assert {"ran": 2} == site.reconcile("-A", "note_app")["found"]
    with shop(site) as app:
        for key in app.backend.client.scan_iter("celery-task-meta-*"):
            if key.decode().removeprefix("celery-task-meta-") not in chained:
                app.backend.client.delete(key)
    seen = site.reconcile("-A", "note_app", "--apply")
    assert ({"leads_on": 2}, {}, None) == (seen["found"], seen["mended"], seen["control"])

    site.work("note_app", 8)
    assert Counter(first=2, second=2, begun=2, ended=2) == Counter(site.did())


@pytest.mark.parametrize("options", [(), ("--apply", "--yes")])
def test_a_redis_that_does_not_answer_is_the_usual_error(site: Site, options: tuple[str, ...]):
    site.emit_while_away("waiting")
    site.stop_redis()

    piped = site.joelclaw("queue", "reconcile", *options)

    assert (3, "REDIS_UNREACHABLE") == (piped.code, piped.error["code"])
    assert 1 == len(site.spool.read_text().splitlines())
