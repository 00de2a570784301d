"""joelclaw queue: depth, list, inspect, pause and resume against a real Redis."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import JoelclawProcess
from tests.cli.test_registry_commands import EVENT, registry_of
from tests.conftest import free_port


def plain_job(job_id: str, **changes: Any) -> Job:
    """A job as a plain Celery task of somebody else's app would be."""
    fields: dict[str, Any] = {
        "id": job_id, "queue": "default", "family": "shop.tasks.add", "handler": "", "priority": 2,
        "lane": "default/shop.tasks.add", "payload": json.dumps({"body": ""}),
        "gates": (), "slack_ms": 300_000,
    }  # fmt: skip
    return Job(**{**fields, **changes})


def pauses(joelclaw: JoelclawProcess) -> list[str]:
    return [pause["gate"] for pause in joelclaw("queue", "depth").result["pauses"]]


def test_the_depth_of_an_empty_queue_is_0(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("queue", "depth")

    assert piped.code == 0
    assert piped.result["total"] == 0
    assert piped.result["oldest_age_ms"] is None
    assert piped.next_commands[0] == "joelclaw queue list"


def test_depth_counts_what_waits_by_family_and_priority(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("a"), plain_job("b", priority=0), plain_job("c", family="shop.tasks.mail")])

    result = joelclaw("queue", "depth").result

    assert result["total"] == 3
    assert result["by_priority"]["P2"] == 2
    families = {family["family"]: family["total"] for family in result["families"]}
    assert families == {"shop.tasks.add": 2, "shop.tasks.mail": 1}
    assert result["oldest_age_ms"] >= 0


def test_list_answers_jobs_in_the_order_they_would_start(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit(
        [plain_job("later", slack_ms=900_000, priority=3), plain_job("first", slack_ms=0, priority=0)]
    )

    piped = joelclaw("queue", "list")

    assert [job["id"] for job in piped.result["jobs"]] == ["first", "later"]
    assert piped.result["count"] == 2
    assert piped.next_commands[0] == "joelclaw queue inspect first"


def test_list_answers_no_more_than_its_limit(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job(f"job-{n}") for n in range(12)])

    assert joelclaw("queue", "list").result["count"] == 10
    assert joelclaw("queue", "list", "--limit", "3").result["count"] == 3


def test_inspect_answers_everything_known_of_a_job(joelclaw: JoelclawProcess) -> None:
    data = {"path": "notes/ü 🦀.md", "text": "\x1b[2J[red]\u202e", "deep": {"n": [1, None]}}
    emitted = joelclaw("emit", "content/updated", "-d", json.dumps(data))
    [job] = emitted.result["jobs"]

    piped = joelclaw("queue", "inspect", job["job_id"])

    assert piped.code == 0
    assert piped.result["job"]["id"] == job["job_id"]
    assert piped.result["job"]["state"] == "available"
    assert find(piped.result["job"], "path") == data


def find(tree: Any, key: str) -> Any:
    """The first object anywhere in the tree that has the key."""
    if isinstance(tree, dict):
        if key in tree:
            return tree
        tree = list(tree.values())
    if isinstance(tree, list):
        return next((found for each in tree if (found := find(each, key)) is not None), None)
    return None


@pytest.mark.parametrize("job_id", ["no-such-job", "", "🦀", "a b\nc", "x" * 5_000, "*"])
def test_inspecting_an_id_that_no_job_has_answers_queue_message_missing(
    joelclaw: JoelclawProcess, job_id: str
) -> None:
    piped = joelclaw("queue", "inspect", job_id)

    assert (piped.code, piped.error["code"]) == (1, "QUEUE_MESSAGE_MISSING")


@pytest.mark.parametrize(
    ("typed", "gate"),
    [
        ("content/updated", "pause:family/content/updated"),
        ("content.validate", "pause:handler/content.validate"),
        ("default", "pause:queue/default"),
        ("pause:family/shop.tasks.add", "pause:family/shop.tasks.add"),
    ],
)
def test_pause_takes_a_family_a_handler_a_queue_or_a_gate_in_full(
    joelclaw: JoelclawProcess, typed: str, gate: str
) -> None:
    paused = joelclaw("queue", "pause", typed, "--ttl", "2h", "--reason", "the NAS is rebuilt")

    assert paused.code == 0
    assert paused.result["gate"] == gate
    record = paused.result["pause"]
    assert (record["actor"], record["reason"]) == ("joel@cli", "the NAS is rebuilt")
    assert record["expires_at"] - record["paused_at"] == 7_200_000
    assert pauses(joelclaw) == [gate]
    assert f"joelclaw queue resume {gate}" in paused.next_commands

    resumed = joelclaw("queue", "resume", typed, "--actor", "kody")
    assert resumed.result == {"gate": gate, "resumed": True, "previous_pause": record}
    assert pauses(joelclaw) == []


def test_a_pause_lasts_15_minutes_unless_told_otherwise(joelclaw: JoelclawProcess) -> None:
    record = joelclaw("queue", "pause", "default").result["pause"]
    assert record["expires_at"] - record["paused_at"] == 900_000

    record = joelclaw("queue", "pause", "default", "--no-ttl").result["pause"]
    assert record.get("expires_at") is None


def test_a_family_that_only_the_queue_knows_can_be_paused_by_name(
    joelclaw: JoelclawProcess, store: Store
) -> None:
    store.admit([plain_job("a")])

    piped = joelclaw("queue", "pause", "shop.tasks.add")

    assert piped.result["gate"] == "pause:family/shop.tasks.add"
    assert joelclaw("queue", "list").result["jobs"][0]["id"] == "a"


def test_pausing_works_while_the_registry_is_broken(joelclaw: JoelclawProcess, store: Store) -> None:
    joelclaw.env["JOELCLAW_REGISTRY_DIR"] = str(joelclaw.home / "nothing")
    store.admit([plain_job("a")])

    assert joelclaw("queue", "pause", "shop.tasks.add").code == 0
    assert joelclaw("queue", "pause", "pause:queue/io").code == 0


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_an_unknown_name_is_refused_with_the_nearest_known_one(joelclaw: JoelclawProcess, verb: str) -> None:
    piped = joelclaw("queue", verb, "content/update")

    assert (piped.code, piped.error["code"]) == (1, "QUEUE_GATE_UNKNOWN")
    assert piped.error["details"] == {"nearest": "content/updated"}
    assert "'content/updated'" in piped.error["message"]
    assert pauses(joelclaw) == []


@pytest.mark.parametrize("gate", ["pause:", "pause:x", "pause:job/7", "pause:family/", "pause:family"])
def test_a_gate_in_full_that_is_none_is_refused(joelclaw: JoelclawProcess, gate: str) -> None:
    piped = joelclaw("queue", "pause", gate)

    assert (piped.code, piped.error["code"]) == (1, "QUEUE_GATE_UNKNOWN")


def test_a_name_that_may_mean_two_gates_is_refused_with_both(joelclaw: JoelclawProcess) -> None:
    twin = {**EVENT, "handlers": [{**EVENT["handlers"][0], "name": "io", "queue": "io"}]}
    joelclaw.env["JOELCLAW_REGISTRY_DIR"] = registry_of(joelclaw.home / "registry", twin)

    piped = joelclaw("queue", "pause", "io")

    assert (piped.code, piped.error["code"]) == (1, "QUEUE_GATE_AMBIGUOUS")
    assert piped.error["details"] == {"gates": ["pause:handler/io", "pause:queue/io"]}
    assert pauses(joelclaw) == []


def test_resuming_what_is_not_paused_is_refused(joelclaw: JoelclawProcess) -> None:
    for gate in ("content/updated", "pause:family/never.seen"):
        piped = joelclaw("queue", "resume", gate)

        assert (piped.code, piped.error["code"]) == (1, "QUEUE_FAMILY_NOT_PAUSED")


@pytest.mark.parametrize("ttl", ["bogus", "59s", "25h", "0", "-1"])
def test_a_bad_ttl_is_refused_and_nothing_is_paused(joelclaw: JoelclawProcess, ttl: str) -> None:
    piped = joelclaw("queue", "pause", "default", f"--ttl={ttl}")

    assert (piped.code, piped.error["code"]) == (2, "QUEUE_CONTROL_INVALID_TTL")
    assert pauses(joelclaw) == []


def test_ttl_and_no_ttl_exclude_each_other(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("queue", "pause", "default", "--ttl", "60s", "--no-ttl")

    assert (piped.code, piped.error["code"]) == (2, "USAGE")
    assert pauses(joelclaw) == []


COMMANDS = [
    ["queue", "depth"], ["queue", "list"], ["queue", "inspect", "x"], ["queue", "pause", "default"],
    ["queue", "resume", "default"], ["emit", "content/updated", "-d", '{"path": "a.md"}'],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_a_redis_every_command_exits_3(
    joelclaw_offline: JoelclawProcess, arguments: list[str]
) -> None:
    nobody = joelclaw_offline(*arguments)
    assert (nobody.code, nobody.error["code"]) == (3, "REDIS_UNREACHABLE")

    joelclaw_offline.env["REDIS_URL"] = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    refused = joelclaw_offline(*arguments, "--debug")
    assert (refused.code, refused.error["code"]) == (3, "REDIS_UNREACHABLE")
    assert "joelclaw up" in refused.envelope["fix"]
    assert "hunter2" not in json.dumps(refused.envelope) + refused.stderr


def test_the_running_fleet_of_a_home_is_found_without_any_variable(
    joelclaw_offline: JoelclawProcess, redis_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "fleet"
    home.mkdir()
    (home / "fleet.json").write_text(json.dumps({"redis_url": redis_url}))

    piped = joelclaw_offline("queue", "depth", "--home", str(home))

    assert piped.code == 0
    assert all(each.endswith(f" --home {home}") for each in piped.next_commands)


def test_on_a_terminal_depth_shows_families_and_pauses(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("a"), plain_job("b", priority=0)])
    joelclaw("queue", "pause", "shop.tasks.add", "--reason", "\x1b[2J[red]stop")

    seen = joelclaw.on_terminal("queue", "depth")

    assert (seen.code, seen.stderr) == (0, "")
    assert "2 waiting, oldest " in seen.screen
    assert "shop.tasks.add" in seen.screen
    assert "\\x1b[2J[red]stop" in seen.screen
    assert "joelclaw queue resume pause:family/shop.tasks.add" in seen.screen


def test_on_a_terminal_list_and_inspect_are_readable(joelclaw: JoelclawProcess, store: Store) -> None:
    assert "nothing is waiting" in joelclaw.on_terminal("queue", "list").screen
    store.admit([plain_job("job-1")])

    listed = joelclaw.on_terminal("queue", "list").screen
    inspected = joelclaw.on_terminal("queue", "inspect", "job-1").screen

    assert "job-1" in listed
    assert "ready" in listed
    assert "job-1 available" in inspected
    assert "shop.tasks.add" in inspected


def test_a_command_that_takes_over_a_second_says_what_it_is_doing(joelclaw: JoelclawProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        joelclaw.env["REDIS_URL"] = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"

        assert joelclaw.until_seen("asking Redis", "queue", "depth") == 130
