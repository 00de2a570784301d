"""joelclaw beat against a real Redis, as a program and as a person use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from joelclaw_tasks.core.beat_memory import BeatMemory, Fired, Missed
from joelclaw_tasks.core.store import Store
from tests.cli.conftest import JoelclawProcess

ROOT = Path(__file__).parents[2]
EVENT = "discovery/noted"
HOUR_MS = 3_600_000


@pytest.fixture
def registry(joelclaw: JoelclawProcess, tmp_path: Path) -> Path:
    """Of the fleet that the command asks about: one event, emitted every hour, and a schedule that is off."""
    path = tmp_path / "registry"
    (path / "events").mkdir(parents=True)
    shipped = ROOT / "registry" / "events" / "discovery-noted.json"
    (path / "events" / shipped.name).write_text(shipped.read_text())
    schedules = {
        "hourly": {
            "event": EVENT,
            "data": {"url": "https://example.org"},
            "cron": "0 * * * *",
            "jitter_s": 5,
        },
        "nightly": {"event": EVENT, "cron": "30 3 * * *", "timezone": "Europe/Berlin", "enabled": False},
    }
    (path / "schedules.json").write_text(json.dumps({"schedules": schedules}))
    joelclaw.env["JOELCLAW_REGISTRY_DIR"] = str(path)
    return path


@pytest.fixture
def memory(store: Store) -> BeatMemory:
    return BeatMemory(store)


def entries(joelclaw: JoelclawProcess) -> dict[str, dict]:
    return {entry["name"]: entry for entry in joelclaw("beat", "list").result["entries"]}


def test_the_list_says_when_each_entry_is_due_and_what_became_of_it(
    joelclaw: JoelclawProcess, registry: Path, memory: BeatMemory
) -> None:
    now_ms = memory.now_ms()
    hour = now_ms - now_ms % HOUR_MS
    memory.looked(now_ms)
    memory.fired("hourly", Fired(hour, hour + 20))
    memory.missed("hourly", Missed(2, hour - 2 * HOUR_MS, hour - HOUR_MS, hour, 0))

    answer = joelclaw("beat", "list").result
    found = {entry["name"]: entry for entry in answer["entries"]}

    assert (True, "") == (answer["is_beating"], answer["fault"])
    assert {"health-pulse-redis", "hourly", "nightly", "notify"} == set(found)
    hourly, nightly = found["hourly"], found["nightly"]
    assert ("on", EVENT, "0 * * * *", "UTC", 5, hour, hour + 20, 2) == (
        hourly["state"], hourly["event"], hourly["when"], hourly["timezone"], hourly["jitter_s"],
        hourly["last_due_at"], hourly["last_sent_at"], hourly["missed"]["count"],
    )  # fmt: skip
    assert hourly["next_at"] in (hour + HOUR_MS, hour + 2 * HOUR_MS)
    assert ("off", "30 3 * * *", "Europe/Berlin", None) == (
        nightly["state"], nightly["when"], nightly["timezone"], nightly["next_at"],
    )  # fmt: skip
    assert ("joelclaw.notify", "every 60 s") == (found["notify"]["task"], found["notify"]["when"])


def test_a_person_sees_what_was_missed_and_that_no_beat_runs(
    joelclaw: JoelclawProcess, registry: Path, memory: BeatMemory
) -> None:
    memory.missed("hourly", Missed(2, 1_795_824_000_000, 1_795_827_600_000, 1_795_828_000_000, 1))

    shown = joelclaw.on_terminal("beat", "list").screen

    assert (
        "hourly was missed 2 times, 2026-11-28 00:00:00 UTC to 2026-11-28 01:00:00 UTC; 1 of them made up for"
    ) in shown.replace("\n", " ")
    assert "no beat ever looked: nothing is fired" in shown


def test_next_lists_the_soonest_times_first(joelclaw: JoelclawProcess, registry: Path) -> None:
    times = joelclaw("beat", "next", "-n", "5").result["times"]

    assert 5 == len(times)
    assert sorted(times, key=lambda time: (time["due_at"], time["name"])) == times
    assert {"health-pulse-redis", "notify"} == {time["name"] for time in times[:4]}
    hourly = [
        time["due_at"] % HOUR_MS for time in joelclaw("beat", "next", "hourly", "-n", "3").result["times"]
    ]
    assert [0, 0, 0] == hourly


def test_run_fires_it_now_beside_its_due_times(
    joelclaw: JoelclawProcess, registry: Path, store: Store
) -> None:
    ran = joelclaw("beat", "run", "hourly")

    job = store.inspect(ran.result["job"])
    assert ("available", "joelclaw.emit") == (job["state"], job["family"])
    assert f"joelclaw queue timeline {ran.result['job']}" == ran.next_commands[0]
    assert entries(joelclaw)["hourly"]["last_sent_at"] is None
    assert "BEAT_ENTRY_OFF" == joelclaw("beat", "run", "nightly").error["code"]


def test_a_pause_is_seen_with_who_and_why_and_is_over_when_resumed(
    joelclaw: JoelclawProcess, registry: Path, memory: BeatMemory
) -> None:
    paused = joelclaw("beat", "pause", "hourly", "--ttl", "2h", "--reason", "too much", "--actor", "joel")

    pause = paused.result["pause"]
    assert (2 * HOUR_MS, "joel", "too much") == (
        pause["until_at"] - pause["since_at"], pause["actor"], pause["reason"],
    )  # fmt: skip
    listed = entries(joelclaw)
    assert ("paused", pause) == (listed["hourly"]["state"], listed["hourly"]["pause"])
    assert "on" == listed["notify"]["state"]
    assert ["hourly"] == joelclaw("beat", "next").result["paused"]

    assert joelclaw("beat", "resume", "hourly").result["was_paused"]
    assert "on" == entries(joelclaw)["hourly"]["state"]
    assert not joelclaw("beat", "resume", "hourly").result["was_paused"]


def test_what_fires_can_be_paused_while_the_registry_is_broken(
    joelclaw: JoelclawProcess, registry: Path, memory: BeatMemory
) -> None:
    memory.fired("hourly", Fired(1, 2))
    (registry / "schedules.json").write_text("{")

    assert joelclaw("beat", "pause", "hourly").result["pause"]["until_at"] is None
    assert "REGISTRY_INVALID" == joelclaw("beat", "pause", "nightly").error["code"]
    assert {"hourly"} == set(memory.read().pauses)


@pytest.mark.parametrize("verb", ["run", "pause", "resume", "next"])
def test_an_unknown_entry_is_named_with_the_nearest(
    joelclaw: JoelclawProcess, registry: Path, verb: str
) -> None:
    answer = joelclaw("beat", verb, "hurly")

    assert "BEAT_ENTRY_UNKNOWN" == answer.error["code"]
    assert "beat has no entry 'hurly'; did you mean 'hourly'?" == answer.error["message"]
    assert ["joelclaw beat list"] == answer.next_commands


def test_a_ttl_that_is_none_changes_nothing(
    joelclaw: JoelclawProcess, registry: Path, memory: BeatMemory
) -> None:
    assert "QUEUE_CONTROL_INVALID_TTL" == joelclaw("beat", "pause", "hourly", "--ttl", "soon").error["code"]
    assert {} == memory.read().pauses
