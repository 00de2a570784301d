"""joelclaw registry: check, list and show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.conftest import JoelclawProcess

EVENT: dict[str, Any] = {
    "name": "greeting/sent",
    "description": "Somebody was greeted.",
    "priority": "P1",
    "protected": True,
    "handlers": [
        {
            "name": "greeting.log", "type": "task", "target": "operator:add", "queue": "io",
            "concurrency": [{"limit": 4}, {"limit": 1, "key": "data.name"}], "resources": ["nas"],
            "retries": {"max": 5, "base_s": 1, "cap_s": 60}, "timeout_s": 30,
        }
    ],
}  # fmt: skip


def registry_of(directory: Path, *events: dict[str, Any]) -> str:
    """A registry directory with these events and the resource nas."""
    (directory / "events").mkdir(parents=True)
    for event in events:
        name = str(event["name"]).replace("/", "-").replace(".", "-")
        (directory / "events" / f"{name}.json").write_text(json.dumps(event))
    (directory / "resources.json").write_text(json.dumps({"nas": {"limit": 2, "description": "The NAS."}}))
    return str(directory)


def test_list_answers_every_event_with_its_handlers(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw_offline.home / "registry", EVENT)

    piped = joelclaw_offline("registry", "list")

    assert piped.code == 0
    assert piped.result["count"] == 1
    assert piped.result["events"] == [
        {
            "name": "greeting/sent",
            "description": "Somebody was greeted.",
            "priority": "P1",
            "protected": True,
            "handlers": ["greeting.log"],
        }
    ]
    assert piped.result["resources"] == {"nas": 2}
    assert piped.result["queues"] == ["io"]


def test_the_registry_of_the_project_has_the_five_pilot_families(joelclaw_offline: JoelclawProcess) -> None:
    names = {event["name"] for event in joelclaw_offline("registry", "list").result["events"]}

    assert {
        "content/updated", "discovery/captured", "discovery/noted", "github/workflow_run.completed",
        "subscription/check-feeds.requested",
    } <= names  # fmt: skip


def test_show_answers_one_event_in_full(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw_offline.home / "registry", EVENT)

    piped = joelclaw_offline("registry", "show", "greeting/sent")

    assert piped.code == 0
    [handler] = piped.result["event"]["handlers"]
    assert handler["concurrency"] == [
        {"limit": 4, "key": None, "weight": 1}, {"limit": 1, "key": "data.name", "weight": 1},
    ]  # fmt: skip
    assert handler["retries"] == {"max": 5, "base_s": 1, "cap_s": 60, "retry_on": []}
    assert "joelclaw emit greeting/sent -d <data>" in piped.next_commands


def test_show_says_what_a_handler_runs_in_restate(joelclaw_offline: JoelclawProcess) -> None:
    called = {"service": "Mail", "handler": "send", "key": "data.to", "mode": "call", "deadline_s": 90}
    event = {**EVENT, "handlers": [{"name": "greeting.mail", "type": "restate", "restate": called}]}
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw_offline.home / "registry", event)

    [handler] = joelclaw_offline("registry", "show", "greeting/sent").result["event"]["handlers"]

    assert ("restate", "Mail/send") == (handler["type"], handler["target"])
    assert ("data.to", "call", 90_000) == tuple(
        handler["restate"][name] for name in ("key", "mode", "deadline_ms")
    )
    assert 0 == joelclaw_offline("registry", "check").code


def test_show_refuses_an_unknown_event_with_the_nearest_name(joelclaw_offline: JoelclawProcess) -> None:
    piped = joelclaw_offline("registry", "show", "content/update")

    assert (piped.code, piped.error["code"]) == (1, "EVENT_UNKNOWN")
    assert "'content/updated'" in piped.error["message"]


def test_check_says_that_there_are_no_faults(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw_offline.home / "registry", EVENT)

    piped = joelclaw_offline("registry", "check")

    assert piped.code == 0
    assert piped.result["events"] == piped.result["handlers"] == 1


def test_check_reports_all_faults_of_all_files(joelclaw_offline: JoelclawProcess) -> None:
    broken = {**EVENT, "name": "broken/one", "priority": "P9", "description": 7}
    other = {**EVENT, "name": "broken/two", "handlers": []}
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(
        joelclaw_offline.home / "registry", EVENT, broken, other
    )

    piped = joelclaw_offline("registry", "check")

    assert (piped.code, piped.error["code"]) == (1, "REGISTRY_INVALID")
    faults = piped.error["details"]["faults"]
    assert len(faults) >= 3
    assert all(fault in piped.error["message"] for fault in faults)
    assert {"broken-one.json", "broken-two.json"} <= {
        name for fault in faults for name in ("broken-one.json", "broken-two.json") if name in fault
    }


def test_check_reports_a_target_that_does_not_import(joelclaw_offline: JoelclawProcess) -> None:
    lost = {**EVENT, "handlers": [{**EVENT["handlers"][0], "target": "no_such_module:run"}]}
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw_offline.home / "registry", lost)

    piped = joelclaw_offline("registry", "check")

    assert (piped.code, piped.error["code"]) == (1, "REGISTRY_INVALID")
    assert "no_such_module" in piped.error["details"]["faults"][0]


def test_a_directory_that_is_not_there_is_a_fault_and_not_a_crash(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["JOELCLAW_REGISTRY_DIR"] = str(joelclaw_offline.home / "nothing")

    for command in ("check", "list"):
        piped = joelclaw_offline("registry", command)
        assert (piped.code, piped.error["code"]) == (1, "REGISTRY_INVALID")
