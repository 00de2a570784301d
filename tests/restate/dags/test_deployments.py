"""The service registers itself: late, twice at once, again after it moved; runs under way go with it."""

from __future__ import annotations

import pytest

from joelclaw_tasks.errors import RestateAway, SettingsError
from joelclaw_tasks.restate.deployments import Deployments, code_version
from joelclaw_tasks.restate.serving import serve
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.restate.dags.conftest import Fleet, Service, task


def ours(fleet: Fleet) -> list[str]:
    """The addresses of what serves DAGs."""
    found = fleet.durable.client.deployments()
    return [one["uri"] for one in found if {"Dag", "DagStep"} == {each["name"] for each in one["services"]}]


def test_two_that_start_at_once_while_restate_is_away_both_register(fleet: Fleet):
    others = Service(fleet.directory, fleet.environment)
    fleet.durable.kill()
    try:
        both = [others.start(wait=False) for _ in range(2)]
        logs = sorted(fleet.directory.glob("service-*.log"), key=lambda path: path.stat().st_mtime_ns)[-2:]
        wait_until(
            lambda: all(b"not registered with Restate yet" in log.read_bytes() for log in logs), "tried", 40
        )
        before = fleet.service.port
        fleet.durable.start()
        wait_until(lambda: all(b"registered with Restate at" in log.read_bytes() for log in logs), "both", 40)
        addresses = ours(fleet)
        assert 3 == len({address.split("/")[2] for address in addresses})
        assert {code_version()} == {address.rstrip("/").rsplit("/", 1)[1] for address in addresses}
        assert any(f":{before}/" in address for address in addresses)

        run = fleet.start(
            {"nodes": [{"id": "w", "type": "wait", "seconds": 1}, task("b", "w", data={"name": "two"})]}
        )
        wait_until(lambda: "running" == fleet.node(run, "w")["state"], "it has begun", 20)
        # Whichever of the two it is on: it goes on at one that is left.
        for one in both:
            others.kill(one)
        assert "completed" == fleet.ended(run, 50)["status"]
        assert 1 == fleet.effects["two"]
    finally:
        others.end()
        if not fleet.durable.is_up:
            fleet.durable.start()


def test_registering_again_changes_nothing(fleet: Fleet):
    base = f"http://127.0.0.1:{fleet.service.port}"
    known = sorted(ours(fleet))
    again = Deployments(fleet.durable.client, base, ["Dag", "DagStep"])
    assert not again.register()
    assert known == sorted(ours(fleet))


def test_another_version_of_the_code_is_another_deployment(fleet: Fleet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("joelclaw_tasks.restate.deployments.code_version", lambda: "0123456789ab")
    base = f"http://127.0.0.1:{fleet.service.port}"
    known = set(ours(fleet))
    assert Deployments(fleet.durable.client, base, ["Dag", "DagStep"]).register()
    assert {f"{base}/0123456789ab"} == {address.rstrip("/") for address in set(ours(fleet)) - known}
    run = fleet.start({"nodes": [{"id": "w", "type": "wait", "seconds": 0.01}]})
    assert "completed" == fleet.ended(run)["status"]


def test_what_is_missing_is_said(fleet: Fleet):
    with pytest.raises(SettingsError, match="RESTATE_ADMIN_URL or RESTATE_INGRESS_URL is not set"):
        serve(Settings())
    fleet.durable.kill()
    try:
        with pytest.raises(RestateAway):
            Deployments(fleet.durable.client, "http://127.0.0.1:9", ["Dag"]).register()
    finally:
        fleet.durable.start()
    taken = fleet.cli("restate", "serve", "--port", str(fleet.service.port))
    assert ("FLEET_ERROR", True) == (
        taken["error"]["code"],
        "cannot be listened on" in taken["error"]["message"],
    )
