"""Queue: every verb, on what a person names; truthful when it changes nothing, or stops half way."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from joelclaw_tasks.core.rate import Rate
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import (
    CannotUndo,
    CoreUnreachable,
    HeldByPerson,
    InvalidFilter,
    InvalidGate,
    InvalidTtl,
    NothingMeasured,
    NotPaused,
    UnknownControl,
    UnknownJob,
    UnknownTarget,
    WrongState,
)
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.steering.queue import Queue
from tests.conftest import free_port
from tests.steering.conftest import job

OBSERVER = {"actor": "observer"}


def admit(queue, *ids, **fields):
    queue.store.admit([job(id, data={"n": n}, **fields) for n, id in enumerate(ids)])


def claim(queue, most=99):
    return [one.tag.split("#")[0] for one in queue.store.claim(["notes"], most, "w").jobs]


def state(queue, id):
    return queue.inspect(id)["state"]


def later(queue, ms=60_000):
    return queue.store.now_ms() + ms


# -- gates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["note", "note.index", "notes", "family/note", "pause:family/note"])
def test_a_name_is_paused_resumed_and_both_are_undone(queue, name):
    admit(queue, "a")
    paused = queue.pause(name, ttl="10m", reason="slow disk")

    assert ("c1", "pause", "joel", "slow disk") == (paused.id, paused.verb, paused.actor, paused.reason)
    assert 600_000 == paused.until_at - paused.at
    assert [paused] == list(queue.controls())
    assert [] == claim(queue)
    assert "resume" == queue.resume(name).verb
    assert [] == list(queue.controls())
    assert "resume" == queue.undo().control.verb
    assert ["c1"] == [each.id for each in queue.controls()]
    assert "pause" == queue.undo().control.verb
    assert ["a"] == claim(queue)


def test_an_unknown_name_is_refused_with_the_nearest_one(queue):
    with pytest.raises(UnknownTarget, match=r"'note.index'") as caught:
        queue.pause("note.indx")
    assert ("QUEUE_GATE_UNKNOWN", {"nearest": "note.index"}) == (caught.value.code, caught.value.details)
    assert [] == list(queue.controls())


def test_a_name_that_is_two_things_is_refused_with_both(queue):
    admit(queue, "a", family="notes")
    with pytest.raises(UnknownTarget, match="pause:family/notes or pause:queue/notes") as caught:
        queue.pause("notes")
    assert "QUEUE_GATE_AMBIGUOUS" == caught.value.code
    assert "pause:queue/notes" == queue.pause("queue/notes").target


@pytest.mark.parametrize("ttl", ["59s", "25h", "soon", 0])
def test_a_pause_lasts_a_minute_to_a_day(queue, ttl):
    with pytest.raises(InvalidTtl):
        queue.pause("note", ttl=ttl)
    assert [] == list(queue.acts())


def test_what_is_not_paused_is_not_resumed(queue):
    with pytest.raises(NotPaused):
        queue.resume("note")


def test_pauses_are_made_and_ended_by_filter(queue):
    admit(queue, "a")
    admit(queue, "b", family="mail", handler="mail.send")
    admit(queue, "c", family="other", handler="o")
    where = "family!=other data.n=0"

    assert ["pause:family/mail", "pause:family/note"] == queue.pause_where(where, dry_run=True)
    assert [] == list(queue.controls())
    assert ["pause:family/mail", "pause:family/note"] == [each.target for each in queue.pause_where(where)]
    assert ["c"] == claim(queue)
    assert ["pause:family/mail"] == queue.resume_where("name=mail", dry_run=True)
    assert ["pause:family/mail"] == [each.target for each in queue.resume_where("family=mail actor=joel")]
    assert [] == queue.resume_where("actor=observer")
    assert ["b"] == claim(queue)


@pytest.mark.parametrize("gate", ["limit:resource/nas", "resource/nas", "nas"])
def test_a_limit_is_set_for_a_while_and_undone(queue, gate):
    assert 1 == queue.store.limit({"limit:resource/nas": 2}, actor="registry", reason="")
    control = queue.limit(gate, 5, ttl="10m", reason="night")

    assert ("limit", "limit:resource/nas", "5", "2") == (
        control.verb, control.target, control.value, control.base,
    )  # fmt: skip
    assert 5 == queue.depth()["gates"][0]["limit"]
    assert queue.limit(gate, None).value == ""
    queue.undo()
    queue.undo()
    assert 2 == queue.depth()["gates"][0]["limit"]


def test_the_limit_that_a_gate_has_is_no_act(queue):
    queue.store.limit({"limit:resource/nas": 2}, actor="registry", reason="")
    assert queue.limit("nas", 2) is None
    assert [] == list(queue.acts())


def test_one_value_of_a_keyed_limit_has_its_own(queue):
    queue.store.limit({"limit:key/h": 1}, actor="registry", reason="")
    assert "limit:key/h=a=b" == queue.limit("key/h=a=b", 3).target


def test_an_unknown_gate_is_refused(queue):
    with pytest.raises(UnknownTarget, match="no limit gate is named 'nass'; the nearest"):
        queue.limit("nass", 3)
    with pytest.raises(UnknownTarget, match="no rate gate"):
        queue.rate("nas", Rate(1, 1_000))


def test_a_rate_is_set_and_undone(queue):
    queue.store.rate({"rate:handler/note.index": Rate(1, 1_000)}, actor="registry", reason="")
    control = queue.rate("handler/note.index", Rate(10, 60_000, 3), ttl=120)
    assert ("10 60000 3", "1 1000 1") == (control.value, control.base)
    assert "rate" == queue.undo().control.verb
    assert [] == list(queue.controls())


# -- jobs ----------------------------------------------------------------------------------------------


def test_jobs_are_chosen_by_id_event_name_and_filter(queue):
    settings = queue.settings
    receipt = Emitter.connect(settings).emit("note", {"path": "a"}, id="evt-1")
    admit(queue, "x", "y", lane="notes|x|")
    ids = sorted(each.job_id for each in receipt.jobs)

    def chosen(*target, **options):
        acted = queue.shed(*target, dry_run=True, **options)
        assert (0, None, True) == (acted.changed, acted.control, acted.dry_run)
        assert acted.matched == len(acted.sample)
        return sorted(each["id"] for each in acted.sample)

    assert ["x"] == chosen("x")
    assert ids == chosen("evt-1")
    assert sorted([*ids, "x", "y"]) == chosen("note") == chosen("notes") == chosen("family/note")
    assert ["y"] == chosen("note", where="data.n=1")
    assert ids == chosen(where="data.path=a")
    assert [] == list(queue.acts())


def test_nothing_chosen_at_all_is_refused(queue):
    with pytest.raises(InvalidFilter, match="nothing is chosen"):
        queue.cancel()
    with pytest.raises(UnknownTarget, match="no job, event, family") as caught:
        queue.cancel("nobody")
    assert "QUEUE_TARGET_UNKNOWN" == caught.value.code


def test_a_filter_that_matches_nothing_is_fine(queue):
    acted = queue.shed(where="family=note")
    assert (0, 0, None) == (acted.matched, acted.changed, acted.control)
    assert [] == list(queue.acts())


def test_a_job_named_by_its_id_that_cannot_be_changed_is_an_error(queue):
    admit(queue, "a")
    claim(queue)
    for verb in (queue.shed, queue.unshed, queue.retry, queue.priority):
        with pytest.raises(WrongState, match="executing"):
            verb("a")


def test_a_familys_jobs_get_another_priority_and_later_ones_too_for_a_while(queue):
    admit(queue, "a", "b")
    acted = queue.priority("note", 100, ttl="10m")
    assert (2, 2, {}) == (acted.matched, acted.changed, acted.skipped)
    admit(queue, "c")
    assert {"P0"} == {queue.inspect(id)["priority"] for id in "abc"}
    undone = queue.undo()
    assert (2, 0) == (undone.jobs, undone.left)
    admit(queue, "d")
    assert ["P2", "P2", "P0", "P2"] == [queue.inspect(id)["priority"] for id in "abcd"]


def test_a_familys_priority_holds_although_none_of_it_waits_yet(queue):
    assert 0 == queue.priority("note", "P0", ttl="10m").matched
    admit(queue, "a")
    assert "P0" == queue.inspect("a")["priority"]
    with pytest.raises(HeldByPerson):
        queue.priority("note", "P3", ttl="10m", **OBSERVER)


def test_a_ttl_on_a_priority_is_for_families_only(queue):
    admit(queue, "a")
    for options in ({"target": "a"}, {"target": "notes"}, {"target": "note", "where": "id~*"}):
        with pytest.raises(InvalidFilter, match="ttl"):
            queue.priority(score="P0", ttl="10m", **options)
    assert [] == list(queue.acts())


def test_a_scheduled_job_is_retried_now(queue):
    admit(queue, "a", due_ms=later(queue))
    assert (1, "c1") == ((acted := queue.retry("a")).changed, acted.control)
    assert "available" == state(queue, "a")
    queue.undo()
    assert "scheduled" == state(queue, "a")


def test_jobs_are_shed_and_brought_back_some_by_filter_and_the_rest_by_undo(queue):
    admit(queue, "a", "b", "c")
    admit(queue, "due", due_ms=later(queue))
    acted = queue.shed("note", ttl="1h", reason="too much")
    assert (4, 4) == (acted.matched, acted.changed)
    (control,) = queue.controls()
    assert (acted.control, "family/note") == (control.id, control.where)
    assert 1 == queue.unshed(where="data.n=0 state=held id=a").changed
    assert ["available", "held"] == [state(queue, "a"), state(queue, "b")]
    assert 3 == queue.undo(acted.control).jobs
    assert ["available", "available", "scheduled"] == [state(queue, each) for each in ("b", "c", "due")]


def test_what_waits_is_cancelled_and_what_runs_only_when_it_is_meant(queue):
    admit(queue, "runs")
    claim(queue)
    admit(queue, "a", "b")
    admit(queue, "due", due_ms=later(queue))
    assert (3, 3, "c1") == ((acted := queue.cancel("note")).matched, acted.changed, acted.control)
    assert "executing" == state(queue, "runs")
    assert 1 == queue.cancel(where="state=executing").changed
    assert 3 == queue.undo("c1").jobs
    assert ["available", "available", "scheduled"] == [state(queue, each) for each in ("a", "b", "due")]
    assert (3, None) == ((acted := queue.cancel("note", for_good=True)).changed, acted.control)
    with pytest.raises(UnknownControl, match="nothing that could be undone"):
        queue.undo()


def test_a_verb_on_many_jobs_that_is_stopped_half_way_tells_what_was_done(queue):
    queue.store.admit([job(f"j{n:04}", lane=f"notes|{n % 5}|") for n in range(2_500)])
    seen = []
    acted = queue.shed(
        "note", on_progress=lambda so_far: seen.append(so_far.changed), stop=lambda: bool(seen)
    )

    assert acted.interrupted
    assert [acted.changed] == seen
    assert 0 < acted.changed <= 250
    assert acted.changed == queue.depth()["by_state"]["held"]
    assert acted.changed == queue.undo().jobs
    assert 2_500 == queue.depth()["by_state"]["available"]


def test_jobs_that_are_claimed_meanwhile_are_skipped_and_counted(queue):
    admit(queue, *(f"j{n}" for n in range(10)))
    candidates = queue._choose("note", {"available"}, {})
    claim(queue, 4)
    acted = queue._on_jobs(
        "shed",
        candidates,
        lambda ids, act: queue.store.shed(
            [f"j{n}" for n in range(10)], target="note", actor="joel", reason=""
        ),
    )
    assert (6, {"WRONG_STATE": 4}) == (acted.changed, acted.skipped)


def test_jobs_are_listed_by_filter(queue):
    admit(queue, "a", "b")
    admit(queue, "due", due_ms=later(queue))
    assert ["due"] == [each["id"] for each in queue.list(where="state=scheduled")]
    assert 2 == len(queue.list(2, where="family=note"))
    assert {"a", "b"} == {each["id"] for each in queue.list()}


def test_the_queue_explains_adds_up_plays_forward_and_audits(queue):
    receipt = Emitter.connect(queue.settings).emit("note", {"path": "a"}, id="evt-1")
    queue.pause("note")
    job_id = receipt.jobs[0].job_id
    assert ("job", "pause:family/note") == (
        (why := queue.explain(job_id))["kind"], why["waiting_on"]["gate"],
    )  # fmt: skip
    assert ("family", "event") == (queue.explain("note")["kind"], queue.explain("evt-1")["kind"])
    assert 2 == len(queue.explain("evt-1")["jobs"])
    with pytest.raises(UnknownJob):
        queue.explain("nobody")
    assert 0 == queue.stats(1)["dispatches"]["started"]
    with pytest.raises(NothingMeasured):
        queue.simulate(pause=["notes"])
    queue.resume("note")
    queue.store.complete([one.tag for one in queue.store.claim(["notes"], 1, "w").jobs])
    assert queue.simulate(pause=["notes"], limit={"nas": 1}, arrivals={"note": 1})
    with pytest.raises(UnknownTarget):
        queue.simulate(pause=["nobody"])
    assert [] == queue.audit()["violations"]


# -- drain -----------------------------------------------------------------------------------------------


def test_a_drain_runs_to_zero_while_workers_take_it_and_then_ends(queue):
    admit(queue, *(f"j{n}" for n in range(30)))
    queue.pause("note", ttl=None)
    claim(queue)
    seen, busy = [], threading.Event()

    def work():
        while not busy.wait(0.01):
            for one in queue.store.claim(["notes"], 5 if seen else 0, "w").jobs:
                queue.store.complete([one.tag])

    worker = threading.Thread(target=work)
    worker.start()
    drained = queue.drain("note", on_progress=lambda one: seen.append(one.waiting), every_s=0.01)
    admit(queue, "late")
    assert [] == claim(queue)
    busy.set()
    worker.join()

    assert (True, 0, 0) == (drained.done, drained.waiting, drained.running)
    assert 30 == seen[0]
    assert sorted(seen, reverse=True) == seen
    assert ["pause"] == [each.verb for each in queue.controls()]


def test_a_drain_that_is_not_waited_for_goes_on_by_itself(queue):
    admit(queue, "a", "b")
    queue.pause("note")
    drained = queue.drain("note", wait=False, ttl="10m")
    assert (False, False, 2) == (drained.done, drained.interrupted, drained.waiting)
    assert ["a", "b"] == claim(queue)
    assert queue.drain("note", stop=lambda: True).interrupted


def test_a_drain_that_is_undone_meanwhile_stops_waiting(queue):
    admit(queue, "a")
    queue.pause("note")
    drained = queue.drain("note", on_progress=lambda one: queue.undo(one.control))
    assert (False, 1) == (drained.done, drained.waiting)


def test_a_drain_gets_past_later_jobs_of_a_better_rank(queue):
    admit(queue, *(f"old{n}" for n in range(3)), priority=3)
    queue.pause("note")
    queue.drain("note", wait=False)
    later_ms = later(queue, 5)
    queue.store._now_ms = lambda: later_ms
    admit(queue, *(f"new{n}" for n in range(50)), priority=0)
    assert {"old0", "old1", "old2"} == set(claim(queue))


# -- undo and the observer ---------------------------------------------------------------------------------


def test_undo_takes_the_actors_own_last_act(queue):
    queue.pause("note")
    queue.pause("notes", actor="ada")
    assert "pause:family/note" == queue.undo().control.target
    assert ["pause:queue/notes"] == [each.target for each in queue.controls()]
    with pytest.raises(UnknownControl, match="joel has done nothing"):
        queue.undo()
    with pytest.raises(CannotUndo):
        queue.undo("c1")


def test_the_observer_gives_way_to_a_person(queue):
    admit(queue, "a")
    queue.pause("note")
    queue.priority("a", "P0")
    for act in (
        lambda: queue.pause("note", **OBSERVER), lambda: queue.resume("note", **OBSERVER),
        lambda: queue.drain("note", **OBSERVER), lambda: queue.undo("c1", **OBSERVER),
        lambda: queue.shed("a", **OBSERVER),
    ):  # fmt: skip
        with pytest.raises(HeldByPerson):
            act()
    assert {"HELD_BY_PERSON": 1} == queue.shed("note", **OBSERVER).skipped


def test_without_redis_every_verb_says_so():
    queue = Queue.connect(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    for act in (
        queue.depth, queue.controls, lambda: queue.pause("pause:family/x"), lambda: queue.shed("x"),
        lambda: queue.drain("pause:queue/x"), lambda: queue.undo("c1"), lambda: queue.retry(where="id~*"),
    ):  # fmt: skip
        with pytest.raises(CoreUnreachable):
            act()


def test_results_are_json(queue):
    admit(queue, "a")
    json.dumps([queue.shed("a").to_wire(), queue.undo().to_wire(), queue.pause("note").to_wire()])


@pytest.mark.parametrize("odd", ["\udcff", "", "*", "a\n", "last", "x" * 5_000, "None"])
def test_odd_names_are_refused_and_odd_words_are_kept_as_text(queue, odd):
    admit(queue, "a")
    for act in (
        lambda: queue.shed(odd), lambda: queue.pause(odd), lambda: queue.limit(odd, 3),
        lambda: queue.drain(odd), lambda: queue.undo(odd),
    ):  # fmt: skip
        with pytest.raises((UnknownTarget, UnknownControl)):
            act()
    with pytest.raises((InvalidGate, UnknownTarget)):
        queue.pause("pause:family/\udcff" + odd)
    with pytest.raises((InvalidGate, UnknownTarget)):
        queue.resume("pause:family/\udcff" + odd)
    assert [] == list(queue.acts())
    acted = queue.shed("a", actor=odd or None, reason=odd)
    assert queue.acts()[0].id == acted.control


def test_an_unknown_id_is_unknown(queue):
    with pytest.raises(UnknownJob):
        queue.inspect("x")


def test_the_package_offers_queue_without_loading_it():
    code = (
        "import sys, joelclaw_tasks; assert not any(m.startswith(('redis', 'celery')) for m in sys.modules);"
        "from joelclaw_tasks import Queue; assert 'celery' not in sys.modules; print(Queue.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ("Queue\n", "") == (done.stdout, done.stderr)
