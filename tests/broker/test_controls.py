"""Controls of plain tasks, `@app.task(jc={...})`, with real workers."""

from __future__ import annotations

import uuid

import pytest
from workers import Site

from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import InvalidControls, InvalidEvent
from tests.conftest import wait_until


@pytest.fixture
def key() -> str:
    return f"effect:{uuid.uuid4().hex}"


def effects(site: Site, key: str) -> list[str]:
    return site.client.lrange(key, 0, -1)


def settled(site: Site, key: str, count: int) -> list[str]:
    """The effects, once there are so many and nothing waits or runs any more."""
    wait_until(lambda: len(effects(site, key)) >= count and site.states().keys() <= {"discarded"}, key, 15)
    return effects(site, key)


def test_a_duplicate_call_runs_once(site: Site, key: str) -> None:
    for _ in range(3):
        site.once.delay(key, key)
    site.once.delay(key, key + "2")
    assert [key, key + "2"] == sorted(settled(site, key, 2))


def test_the_last_of_a_flurry_runs(site: Site, key: str) -> None:
    for number in range(5):
        site.latest.delay(key, number)
    assert ["4"] == settled(site, key, 1)


def test_calls_run_together_and_those_that_failed_alone(site: Site, key: str) -> None:
    ids = [site.together.delay(key, value).id for value in ("a", "bad", "worse", "d")]

    assert ["a,bad,worse,d", "bad"] == settled(site, key, 2)
    assert ["discarded"] * 2 == [site.store.inspect(ids[n])["state"] for n in (1, 2)]
    assert "bad one" in site.store.inspect(ids[1])["error"]
    assert "PermanentFailure: worse" == site.store.inspect(ids[2])["error"]
    site.store.purge([ids[1], ids[2]], actor="test", reason="")


def test_a_newer_call_stops_the_one_that_runs(site: Site, key: str) -> None:
    site.newest.delay(key, 1, 10)
    wait_until(lambda: effects(site, key), "the first runs", 15)
    site.newest.delay(key, 2, 0)
    assert ["start 1", "start 2", "end 2"] == settled(site, key, 3)


def test_a_job_that_waited_for_a_place_comes_with_the_exchange_that_tells_of_it(site: Site, key: str) -> None:
    site.client.config_resetstat()
    for number in range(20):
        site.alone.delay(key, number)
    wait_until(lambda: len(effects(site, key)) == 20, "all have run", 15)

    scripts = site.client.info("commandstats")["cmdstat_evalsha"]["calls"]

    assert {"1"} == set(settled(site, key, 20))
    # 20 were admitted; telling and claiming apart would be 40 more, as in a green pool, which tells at once.
    assert scripts - 20 < (30 if site.pool != "gevent" else 60)


def test_an_operator_stops_a_job_that_runs(site: Site, key: str) -> None:
    job = site.newest.delay(key, 1, 10)
    wait_until(lambda: effects(site, key), "it runs", 15)

    assert [Word.ASKED] == site.store.cancel([job.id], actor="joel", reason="wrong")

    assert ["start 1"] == settled(site, key, 1)


def test_a_call_of_another_task_withdraws_what_waits(site: Site, key: str) -> None:
    site.send.delay(key)
    other = site.send.delay(key + "2")
    wait_until(lambda: site.states().get("scheduled") == 2, "both wait")
    site.withdraw.delay(key)
    wait_until(lambda: site.states() == {"scheduled": 1}, "one is withdrawn")
    assert ["withdrawn"] == effects(site, key)
    site.store.cancel([other.id], actor="test", reason="")


def test_a_call_that_celery_lets_expire_ends_as_cancelled(site: Site, key: str) -> None:
    result = site.clock.apply_async(expires=0.000001)
    wait_until(lambda: result.state == "REVOKED", "Celery tells its caller", 15)
    wait_until(lambda: site.states() == {}, "it is over")
    last = list(site.store.history.read(job=result.id))[-1]
    assert ("cancel", "cancelled", "expiry") == (last.verb, last.to_state, last.actor)


def test_only_errors_that_are_named_are_worth_a_retry(site: Site, key: str) -> None:
    first = site.tries.delay(key, "KeyError")
    assert ["0", "1", "2"] == settled(site, key, 3)
    second = site.tries.delay(key + "2", "ValueError")
    assert ["0"] == settled(site, key + "2", 1)
    wait_until(lambda: site.states() == {"discarded": 2}, "both failed")
    site.store.purge([first.id, second.id], actor="test", reason="")


def test_a_limit_of_a_task_holds_for_all_workers(site: Site, key: str) -> None:
    for number in range(6):
        site.alone.delay(key, number)
    assert ["1"] * 6 == settled(site, key, 6)


def test_a_single_call_has_controls_of_its_own(own: Site, key: str) -> None:
    own.note.apply_async((key, 1), jc={"delay_s": 60, "priority": "P0", "dedup": {"window_s": 60}})
    own.note.apply_async((key, 2), jc={"dedup": {"window_s": 60}})
    own.note.delay(key, 3)
    assert {"scheduled": 1, "available": 1} == own.states()


def test_a_retry_does_not_wait_for_the_delay_of_its_task_again(own: Site, key: str) -> None:
    own.note.apply_async((key, 1), jc={"delay_s": 60}, retries=1)
    assert {"available": 1} == own.states()


def test_an_expired_call_is_never_run(own: Site, key: str) -> None:
    own.note.apply_async((key, 1), jc={"expires_s": 0.001})
    wait_until(lambda: own.store.now_ms() and not own.store.claim(["stranger"], 1, "h").jobs, "it is dropped")
    assert {} == own.states()


@pytest.mark.parametrize(
    ("controls", "fault"),
    [
        (
            {"dedup": {"window_s": 1, "key": "data.id"}},
            "dedup.key: \"data.id\" reads 'data', which no call has",
        ),
        ({"dedup": {"key": "args[0"}}, 'dedup.key: "args\\[0" is not a JMESPath expression'),
        ({"debounc": {}}, 'debounc: is not a known field; did you mean "debounce"'),
        ({"batch": {"size": 2, "max_wait_s": 1}, "singleton": {}}, "batch and singleton contradict"),
        ({"delay_s": {1}}, "must be JSON values"),
        ("dedup", "must be a dict of controls, not str"),
        ({"retries": {"max": 1}}, "retries belongs to task note as a whole"),
    ],
)
def test_controls_that_cannot_be_meant_are_refused_at_the_call(own: Site, controls, fault) -> None:
    with pytest.raises(InvalidControls, match=fault):
        own.note.apply_async(("k", 1), jc=controls)
    assert {} == own.states()


def test_a_key_that_is_an_object_refuses_the_call(own: Site) -> None:
    with pytest.raises(InvalidEvent, match="finds an object in this call of once"):
        own.once.delay("k", {"a": 1})
    own.once.delay("k", None)
    own.once.delay("k", None)
    assert {"available": 2} == own.states()


def test_a_worker_refuses_to_start_with_controls_that_cannot_be_meant(own: Site) -> None:
    from joelclaw_tasks.broker.declared import declared_specs

    def broken():
        """Does nothing."""

    own.app.task(broken, name="broken", shared=False, jc={"dedup": {}})
    with pytest.raises(
        InvalidControls, match=r"task broken cannot be meant:\n  - dedup\.window_s: is missing"
    ):
        declared_specs(own.app)
