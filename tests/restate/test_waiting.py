"""When a call looks for its output again, what it is given, and which settings it needs: no server here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.core.spec import RestateSpec
from joelclaw_tasks.errors import PermanentFailure, RestateLate, SettingsError
from joelclaw_tasks.restate.client import RestateClient, Target
from joelclaw_tasks.restate.tasks import LAST_LOOK_S, Waiting, body_of, look, target_of
from joelclaw_tasks.settings import Settings

CALL = RestateSpec("Mail", "send", mode="call", deadline_ms=3_600_000)


def event(**data) -> Event:
    return Event("e1", "mail/received", "test", data, 1_000)


def test_looks_are_further_apart_each_time_up_to_a_bound_and_never_all_at_once():
    waits = [
        [Waiting("inv_1", "Accepted", 0, looks).next_look_s(CALL, 0) for looks in range(60)]
        for _ in range(20)
    ]
    for wait in waits:
        assert 0.075 <= wait[0] <= 0.125
        assert wait[4] > wait[0]
        assert all(one <= LAST_LOOK_S * 1.25 for one in wait)
        assert wait[-1] >= LAST_LOOK_S * 0.75
    assert len({wait[-1] for wait in waits}) > 1


def test_an_hour_of_waiting_costs_few_looks():
    now_ms, waiting, looks = 0, Waiting("inv_1", "Accepted", 0), 0
    while now_ms < CALL.deadline_ms:
        now_ms += int(waiting.next_look_s(CALL, now_ms) * 1000)
        waiting, looks = Waiting("inv_1", "Accepted", 0, waiting.looks + 1), looks + 1
    assert 100 < looks < 200


def test_the_last_look_is_just_after_the_deadline():
    late = Waiting("inv_1", "Accepted", 0, 30)
    assert 0.05 <= late.next_look_s(CALL, CALL.deadline_ms - 2_000) <= 2.05
    assert 0.05 == late.next_look_s(CALL, CALL.deadline_ms + 99_000)


def test_a_server_that_is_away_is_looked_for_until_the_deadline_and_named_then():
    client = RestateClient("http://127.0.0.1:9", timeout_s=1)
    waiting = Waiting("inv_1", "Accepted", 0, 3)
    assert Waiting("inv_1", "Accepted", 0, 4) == look(client, CALL, waiting, CALL.deadline_ms - 1)
    with pytest.raises(RestateLate, match=r"inv_1 has not ended within 3600 s \(Restate cannot be reached"):
        look(client, CALL, waiting, CALL.deadline_ms)
    client.close()


def test_what_travels_with_the_job_comes_back_as_it_was():
    waiting = Waiting("inv_1", "PreviouslyAccepted", 17, 3)
    assert waiting == Waiting.from_wire(json.loads(json.dumps(waiting.to_wire())))


def test_a_job_goes_where_its_kind_of_handler_is():
    assert Target("Mail", "send") == target_of(CALL, event(), "job-1")
    keyed = RestateSpec("Mail", "send", key="data.to")
    assert Target("Mail", "send", "a/b") == target_of(keyed, event(to="a/b"), "job-1")
    flow = RestateSpec("Mail", "run", workflow=True)
    assert Target("Mail", "run", "job-1") == target_of(flow, event(), "job-1")


@pytest.mark.parametrize("data", [{}, {"to": None}, {"to": ""}, {"to": {"name": "x"}}])
def test_an_event_without_a_key_never_reaches_an_object(data):
    with pytest.raises(PermanentFailure):
        target_of(RestateSpec("Mail", "send", key="data.to"), event(**data), "job-1")


def test_a_handler_is_given_the_data_the_event_or_nothing():
    given = {
        kind: body_of(RestateSpec("Mail", "send", input=kind), event(to="ü")) for kind in ("data", "none")
    }
    assert {"data": '{"to":"ü"}'.encode(), "none": None} == given
    whole = json.loads(body_of(RestateSpec("Mail", "send", input="event"), event(to="x")))
    assert event(to="x").to_wire() == whole


def test_the_addresses_of_a_running_fleet_are_used(tmp_path: Path):
    urls = {"restate_ingress_url": "http://127.0.0.1:1", "restate_admin_url": "http://127.0.0.1:2"}
    (tmp_path / "fleet.json").write_text(json.dumps({"redis_url": "redis://127.0.0.1:3/0", **urls}))
    settings = Settings.load({}, home=tmp_path)
    assert urls == {name: getattr(settings, name) for name in urls}

    (tmp_path / "fleet.json").write_text(json.dumps({"redis_url": "redis://127.0.0.1:3/0"}))
    given = Settings.load({"RESTATE_INGRESS_URL": "http://10.0.0.1:8080"}, home=tmp_path)
    assert "http://10.0.0.1:8080" == given.restate_ingress_url


@pytest.mark.parametrize(
    "env",
    [
        {"RESTATE_INGRESS_URL": "joel:hunter2hunter2@host"},
        {"RESTATE_ADMIN_URL": "ftp://joel:hunter2hunter2@host"},
        {"JOELCLAW_RESTATE_TIMEOUT_S": "0"},
        {"JOELCLAW_RESTATE_TIMEOUT_S": "301"},
        {"JOELCLAW_WITH_RESTATE": "perhaps"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused_without_their_secrets(env: dict[str, str], tmp_path: Path):
    with pytest.raises(SettingsError) as caught:
        Settings.load(env, home=tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "RESTATE" in str(caught.value).upper()
    assert "hunter2" not in repr(Settings(restate_ingress_url="http://joel:hunter2hunter2@host"))
