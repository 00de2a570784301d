"""What a failed task leaves in the dead letter, in every pool."""

from __future__ import annotations

import json
import uuid

from workers import Site

from tests.conftest import wait_until


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
