"""`joelclaw up --with-restate`: a Restate server of the fleet's own, kept running like the rest."""

from __future__ import annotations

import contextlib
from pathlib import Path

import httpx
import psutil
import pytest

from joelclaw_tasks.core.spec import EventSpec, HandlerSpec, RestateSpec
from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.launch import launch
from joelclaw_tasks.fleet.leftovers import start_mark
from joelclaw_tasks.fleet.restate_checks import restate_checks
from joelclaw_tasks.fleet.restate_server import find_server, prepare
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.restate.client import RestateClient, Target
from joelclaw_tasks.settings import Settings
from tests.conftest import wait_until
from tests.fleet.test_up import CLEAN, Up

pytestmark = pytest.mark.restate


class Silent:
    def line(self, name: str, text: str) -> None: ...

    def event(self, name: str, what: str) -> None: ...


@pytest.mark.timeout(150)
def test_it_runs_with_the_fleet_comes_back_and_stops_with_it(tmp_path: Path):
    with contextlib.closing(Up(tmp_path / "home", "--no-flower", "--with-restate")) as up:
        ingress, admin = up.urls["restate_ingress_url"], up.urls["restate_admin_url"]
        assert ingress == up.state["restate_ingress_url"]

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return all(
                    httpx.get(url, trust_env=False).is_success
                    for url in (f"{ingress}/restate/health", f"{admin}/health")
                )
            return False

        assert healthy()
        server = psutil.Process(up.pid("restate"))
        assert {"127.0.0.1"} == {
            one.laddr.ip for one in server.net_connections("inet") if one.status == psutil.CONN_LISTEN
        }
        assert "GITHUB_WEBHOOK_SECRET" not in server.environ()
        assert ingress == psutil.Process(up.pid("worker-io")).environ()["RESTATE_INGRESS_URL"]
        assert {"restate answers": "ok", "restate services": "ok"} == doctor(up.home, Registry(()))
        assert "warn" == doctor(up.home, needing("Mail"))["restate services"]

        dags = RestateClient(ingress, admin)
        assert {"Dag", "DagStep"} == dags.services()
        service = psutil.Process(up.pid("restate-service"))
        service.kill()
        plan = b'{"nodes": [{"id": "w", "type": "wait", "seconds": 0.1}]}'
        sent = dags.send(Target("Dag", "run", "kept"), plan)
        assert dags.attach(sent.invocation_id, within_s=30).value is None
        assert up.pid("restate-service") != service.pid
        dags.close()

        server.kill()
        wait_until(lambda: up.pid("restate") not in {server.pid, None} and healthy(), "it runs again", 20)
        assert 1 == up.restarts("restate")

        pids = up.pids()
        assert 0 == up.stop()
        assert [] == [pid for pid in pids if start_mark(pid)]
        assert (tmp_path / "home" / "restate").is_dir()


def doctor(home: Path, registry: Registry) -> dict[str, str]:
    checks = restate_checks(Settings.load(CLEAN, home=home), registry)
    return {check.name: check.status for check in checks}


def test_two_servers_are_not_wanted(tmp_path: Path):
    env = {**CLEAN, "JOELCLAW_WITH_RESTATE": "1", "RESTATE_INGRESS_URL": "http://127.0.0.1:9"}
    with pytest.raises(FleetError, match="RESTATE_INGRESS_URL names a Restate server"):
        launch(tmp_path / "home", env=env, view=Silent(), on_ready=lambda urls: None)
    assert not (tmp_path / "home" / "fleet.json").exists()


def test_without_restate_the_doctor_names_the_handlers_that_need_it(tmp_path: Path):
    [check] = restate_checks(Settings(), needing("Mail"))
    assert ("fail", "handlers need Mail, and RESTATE_INGRESS_URL is not set") == (check.status, check.detail)
    assert [] == list(restate_checks(Settings(), Registry(())))
    [check] = restate_checks(Settings(restate_ingress_url="http://127.0.0.1:9"), Registry(()))
    assert ("fail", "Restate cannot be reached: no connection") == (check.status, check.detail)


def needing(service: str) -> Registry:
    handler = HandlerSpec(
        "mail.send", "restate", f"{service}/send", "io", restate=RestateSpec(service, "send")
    )
    return Registry([EventSpec("mail/received", "A mail came in.", 2, (handler,))])


def test_without_a_server_it_is_said_how_to_get_one(tmp_path: Path):
    with pytest.raises(FleetError, match="no restate-server on this machine") as caught:
        find_server(str(tmp_path), roots=(tmp_path,))
    assert "make restate" in caught.value.fix


def test_its_data_is_for_its_owner_only_and_no_secret_goes_to_it(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-secret-of-the-fleet")
    monkeypatch.setenv("RESTATE_INGRESS_URL", "http://127.0.0.1:9")
    server = prepare(tmp_path / "restate", ingress_port=1, admin_port=2, node_port=3)
    assert 0o700 == (tmp_path / "restate").stat().st_mode & 0o777
    assert set() == {"ANTHROPIC_API_KEY", "RESTATE_INGRESS_URL"} & set(server.environ)
    assert "true" == server.environ["RESTATE_DISABLE_TELEMETRY"]
    assert ("http://127.0.0.1:1", "http://127.0.0.1:2") == (server.ingress_url, server.admin_url)
