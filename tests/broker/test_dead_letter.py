"""What a failed task leaves in the dead letter, in every pool."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from billiard.exceptions import WorkerLostError
from workers import POOLS, Site

from tests.cli.conftest import JoelclawProcess
from tests.conftest import free_port, wait_until


def dead_of(site: Site, name: str, *args) -> dict:
    return site.wait_dead(getattr(site, name).delay(*args).id)


def test_a_dead_job_keeps_the_traceback_and_where_it_failed(site: Site):
    dead = dead_of(site, "fail", "order 17")

    assert "ValueError: order 17" == dead["error"]
    assert dead["traceback"].startswith("Traceback (most recent call last):\n")
    assert "in fail\n    raise ValueError(text)\nValueError: order 17\n" in dead["traceback"]
    (group,) = [one for one in site.store.dead.groups() if one["signature"] == dead["signature"]]
    assert "broker/stranger_app.py:fail" == group["place"]


def test_the_same_failure_with_other_values_has_the_same_signature(site: Site):
    alike = [dead_of(site, "fail", text)["signature"] for text in ("order 17", "order 9")]
    other = dead_of(site, "fail", "no money")["signature"]

    assert 1 == len(set(alike))
    assert alike[0] != other
    assert alike[0].startswith("ValueError-")


def test_secrets_are_neither_in_the_traceback_nor_in_the_error(site: Site):
    dead = dead_of(site, "leaks", 123456789)

    assert dead["error"].startswith("JSONDecodeError: Expecting value")
    assert "json.loads(" in dead["traceback"]
    assert "hunter2" not in dead["traceback"]
    assert "password=***" in dead["traceback"]
    secret = dead_of(site, "fail", "redis://:hunter2@h/0 refused Bearer abcdef123456")
    assert "ValueError: redis://:***@h/0 refused Bearer ***" == secret["error"]
    assert "hunter2" not in secret["traceback"]
    (group,) = [one for one in site.store.dead.groups() if one["signature"] == dead["signature"]]
    assert "broker/stranger_app.py:leaks" == group["place"]


def test_an_error_that_cannot_be_pickled_nor_printed_is_kept_all_the_same(site: Site):
    dead = dead_of(site, "fails_oddly", 7)

    assert dead["error"].startswith("OddError")
    assert dead["signature"].startswith("OddError-")
    assert "in fails_oddly" in dead["traceback"]
    assert 5 == site.add.delay(2, 3).get(timeout=10)


def test_what_fails_without_an_exception_has_a_signature_too(site: Site):
    rejected = site.rejected.delay(f"k{uuid.uuid4()}", requeue=False)
    unknown = [site.app.send_task(f"stranger.nobody_{n}", (1,)) for n in (1, 2)]
    nothing = json.dumps({"body": "", "headers": {}, "properties": {}})
    site.client.lpush("stranger", nothing, "no JSON at 17", "no JSON at 18")

    assert site.wait_dead(rejected.id)["signature"].startswith("Reject-")
    signatures = [site.wait_dead(each.id)["signature"] for each in unknown]
    assert 2 == len(set(signatures))  # another task that is missing is another failure
    assert all(signature.startswith("UnknownTask-") for signature in signatures)
    wait_until(
        lambda: any(
            one["count"] == 2 and one["signature"].startswith("Refused-") for one in site.store.dead.groups()
        ),
        "the unreadable ones form one group",
    )


def test_a_revived_job_has_its_retries_again_and_when_it_fails_again_it_is_back(site: Site):
    switch = f"switch-{uuid.uuid4()}"
    result = site.mended.delay(switch, 17)
    first = site.wait_dead(result.id)
    assert ["0", "1"] == site.effects(switch + ":tries")
    assert "ZeroDivisionError: order 17 of 'shop 17'" == first["error"]

    site.store.revive([result.id], actor="t", reason="not fixed yet")
    wait_until(lambda: 4 == len(site.effects(switch + ":tries")), "it was tried twice again")
    again = site.wait_dead(result.id)
    assert ["0", "1", "0", "1"] == site.effects(switch + ":tries")
    assert (first["signature"], 4) == (again["signature"], again["claims"])

    site.client.set(switch, "on")
    site.store.revive([result.id], actor="t", reason="fixed")
    site.wait_gone(result.id)
    wait_until(lambda: 17 == result.result, "its result is there")


def test_a_revived_job_that_had_expired_runs(site: Site):
    where = f"effect-{uuid.uuid4()}"
    result = site.fails_then_notes.apply_async((where,), expires=0.7)
    site.wait_dead(result.id)
    site.client.set(where + ":on", "1")
    wait_until(lambda: site.client.pttl(where + ":late") == -2, "it has expired")
    site.store.revive([result.id], actor="t", reason="")
    wait_until(lambda: ["ran"] == site.effects(where), "it ran")


def test_the_dead_letter_shows_three_failures_and_the_fixed_one_is_drained(own: Site, tmp_path):
    joelclaw = JoelclawProcess(tmp_path, own.url)
    switch = f"switch-{uuid.uuid4()}"
    for _ in range(2):
        own.start("threads")
    for n in range(3):
        own.parse.delay(f"{{poison {n}")
        own.fetch.delay(free_port())
    billed = [own.bill.delay(n, switch).id for n in range(12)]
    wait_until(lambda: own.store.dead.count() == 18, "all have failed for good", 30)

    groups = {one["place"].partition(":")[2]: one for one in joelclaw("dead", "list").result["groups"]}
    assert {"parse": 3, "fetch": 3, "bill": 12} == {name: one["count"] for name, one in groups.items()}
    signature = groups["bill"]["signature"]
    assert signature.startswith("KeyError-")

    own.client.set(switch, "fixed")
    sample = joelclaw("dead", "revive", "--signature", signature, "--sample", "1").result
    assert (1, 11) == (sample["revived"], sample["left"])
    own.wait_gone(sample["ids"][0])
    assert ["7"] == own.effects(switch + ":billed")
    rest = joelclaw("dead", "revive", "--signature", signature, "--rate", "100/s").result
    assert (11, 0) == (rest["revived"], rest["left"])
    for job_id in billed:
        own.wait_gone(job_id)

    assert 12 == len(own.effects(switch + ":billed"))
    left = {one["signature"]: one for one in joelclaw("dead", "list").result["groups"]}
    assert {groups[name]["signature"]: groups[name] for name in ("parse", "fetch")} == left


@pytest.fixture
def gone_backend(tmp_path: Path) -> Callable[[Site, str], None]:
    """Starts a worker whose result backend goes away once it is ready."""

    def start(site: Site, pool: str) -> None:
        results = tmp_path / "results"
        results.mkdir()
        site.start(pool, result_backend=f"file://{results}").wait_ready()
        results.rmdir()

    return start


@pytest.mark.parametrize("pool", POOLS)
def test_when_the_result_backend_is_away_the_job_shows_its_own_error(own: Site, gone_backend, pool: str):
    gone_backend(own, pool)
    result = own.fail.delay("order 17")
    dead = own.wait_dead(result.id, 20)

    assert dead["error"].startswith("ValueError: order 17 (and its result could not be stored: ")
    assert dead["signature"].startswith("ValueError-")
    (group,) = own.store.dead.groups()
    assert "broker/stranger_app.py:fail" == group["place"]


@pytest.mark.parametrize("pool", POOLS)
def test_when_the_result_of_a_success_cannot_be_stored_that_is_the_error(own: Site, gone_backend, pool: str):
    gone_backend(own, pool)
    dead = own.wait_dead(own.add.delay(1, 2).id, 20)

    # each thread makes a backend of its own, which looks at its folder first
    assert dead["error"].partition(":")[0] in ("FileNotFoundError", "ImproperlyConfigured")
    assert {} == own.leases()
    where = f"k{uuid.uuid4()}"
    own.note.delay(where, "the worker goes on")
    wait_until(lambda: own.effects(where), "another task ran")


def test_a_job_over_its_hard_limit_and_one_whose_process_died_have_a_signature_by_task(own: Site):
    own.start("prefork", broker_transport_options={"max_kills": 1})
    slow, lost = own.hard_limited.delay(), own.dies.delay(f"k{uuid.uuid4()}", 9)

    assert own.wait_dead(slow.id)["signature"].startswith("TimeLimitExceeded-")
    assert own.wait_dead(lost.id)["signature"].startswith("WorkerDied-")
    assert {"hard_limited", "dies"} == {group["place"] for group in own.store.dead.groups()}


def test_a_caller_hears_that_the_worker_died_under_its_job_too_often(own: Site):
    where, errors = f"k{uuid.uuid4()}", f"k{uuid.uuid4()}"
    first = own.start("threads")
    result = own.dies.apply_async((where, 1), link_error=own.note.si(errors, "told"))
    unknown = own.app.send_task("nobody.knows", (1,))
    assert -9 == first.wait_end(30)
    own.store.client.rpush(own.store.keys.orphans, "nobody", unknown.id)
    own.start("threads", broker_transport_options={"max_kills": 1})

    with pytest.raises(WorkerLostError, match="its worker died under it 1 times"):
        result.get(timeout=30)
    dead = own.wait_dead(result.id)
    assert dead["signature"].startswith("WorkerDied-")
    assert "1" == own.client.get(where)
    wait_until(lambda: ["told"] == own.effects(errors), "its errback ran")


def test_a_worker_trims_the_dead_letter_on_the_record(own: Site):
    own.start("threads").wait_ready()
    ids = [own.fail.delay(f"order {n}").id for n in range(4)]
    for job_id in ids:
        own.wait_dead(job_id)
    own.start("threads", broker_transport_options={"dead_max": 1})

    wait_until(lambda: 1 == own.store.dead.count(), "all but one were purged", 20)
    entries = [fields for _, fields in own.client.xrange("{jc}:transitions") if fields["verb"] == "purge"]
    assert {"retention"} == {entry["actor"] for entry in entries}
    assert 3 == len(entries)
