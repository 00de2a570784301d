"""joelclaw emit: one event, many events, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import JoelclawProcess

DATA = {"path": "notes/a.md"}
BODY = json.dumps(DATA)


def depth(joelclaw: JoelclawProcess) -> int:
    return int(joelclaw("queue", "depth").result["total"])


def test_emit_queues_a_job_for_each_handler_and_says_which(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("emit", "content/updated", "-d", BODY, "-p", "p0", "--id", "event-1")

    assert piped.code == 0
    assert piped.result["event_id"] == "event-1"
    assert piped.result["name"] == "content/updated"
    [job] = piped.result["jobs"]
    assert (job["handler"], job["decision"]) == ("content.validate", "admitted")
    assert piped.next_commands == [f"joelclaw queue inspect {job['job_id']}", "joelclaw queue depth"]
    [waiting] = joelclaw("queue", "list").result["jobs"]
    assert (waiting["id"], waiting["family"], waiting["priority"]) == (job["job_id"], "content/updated", "P0")


def test_the_same_id_again_queues_nothing(joelclaw: JoelclawProcess) -> None:
    first = joelclaw("emit", "content/updated", "-d", BODY, "--id", "event-1")
    again = joelclaw("emit", "content/updated", "-d", BODY, "--id", "event-1")

    assert again.code == 0
    [job] = again.result["jobs"]
    assert job["decision"] == "duplicate"
    assert job["job_id"] == first.result["jobs"][0]["job_id"]
    assert depth(joelclaw) == 1


def test_an_event_that_expires_says_when(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("emit", "content/updated", "-d", BODY, "--expires", "10m")
    [job] = piped.result["jobs"]
    assert "admitted" == job["decision"]
    assert "expires_at" in joelclaw("queue", "inspect", job["job_id"]).result["job"]["rules"]


def test_a_delayed_event_is_scheduled(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("emit", "content/updated", "-d", BODY, "--delay", "10m")

    assert piped.result["jobs"][0]["decision"] == "scheduled"
    [job_id] = [job["job_id"] for job in piped.result["jobs"]]
    assert joelclaw("queue", "inspect", job_id).result["job"]["state"] == "scheduled"


def test_data_comes_from_a_file_or_from_stdin(joelclaw: JoelclawProcess) -> None:
    (joelclaw.home / "data.json").write_text(BODY)

    assert joelclaw("emit", "content/updated", "-d", "@data.json").code == 0
    assert joelclaw("emit", "content/updated", "-d", "-", stdin=BODY).code == 0
    assert depth(joelclaw) == 2


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[1]", "must be a JSON object, not an array"),
        ('"text"', "not a string"),
        ("7", "not a number"),
        ("null", "not null"),
        ("true", "not true"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": -Infinity}', "-Infinity is not a JSON number"),
        ('{"a": 1e999}', ""),
        ('{"a": "\\ud800"}', ""),
        ("@no-such-file.json", "No such file"),
        ("@.", "directory"),
    ],
)
def test_data_that_is_not_a_json_object_is_refused_and_nothing_is_queued(
    joelclaw: JoelclawProcess, data: str, complaint: str
) -> None:
    piped = joelclaw("emit", "content/updated", "-d", data)

    assert (piped.code, piped.error["code"]) == (1, "EVENT_INVALID")
    assert complaint in piped.error["message"]
    assert depth(joelclaw) == 0


@pytest.mark.parametrize(
    ("stdin", "complaint"),
    [(b"\xff\xfe{}", "not UTF-8"), (b"\xef\xbb\xbf{}", "JSON"), (b'{"a":' * 200_000, "nested too deeply")],
)
def test_bytes_that_are_no_json_text_are_refused(
    joelclaw: JoelclawProcess, stdin: bytes, complaint: str
) -> None:
    piped = joelclaw("emit", "content/updated", "-d", "-", stdin=stdin)

    assert (piped.code, piped.error["code"]) == (1, "EVENT_INVALID")
    assert complaint in piped.error["message"]


def test_an_unknown_event_is_refused_with_the_nearest_name(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("emit", "content/update", "-d", BODY)

    assert (piped.code, piped.error["code"]) == (1, "EVENT_UNKNOWN")
    assert "content/updated" in piped.error["message"]
    assert depth(joelclaw) == 0


@pytest.mark.parametrize("priority", ["P4", "urgent", "-1", "1.0", ""])
def test_an_unknown_priority_is_refused(joelclaw: JoelclawProcess, priority: str) -> None:
    piped = joelclaw("emit", "content/updated", "-d", BODY, f"--priority={priority}")

    assert (piped.code, piped.error["code"]) == (1, "EVENT_INVALID")
    assert depth(joelclaw) == 0


@pytest.mark.parametrize("size", [1_100_000, 7_000_000])
def test_a_payload_over_the_cap_is_refused(joelclaw: JoelclawProcess, size: int) -> None:
    piped = joelclaw("emit", "content/updated", "-d", "-", stdin=json.dumps({"path": "x" * size}))

    assert (piped.code, piped.error["code"]) == (1, "PAYLOAD_TOO_LARGE")
    assert depth(joelclaw) == 0


def test_many_events_of_one_name_come_from_the_lines_of_stdin(joelclaw: JoelclawProcess) -> None:
    lines = "\n".join(json.dumps({"path": f"{n}.md"}) for n in range(1_201))

    piped = joelclaw("emit", "content/updated", "--stdin", "-p", "P3", stdin=lines + "\n\n")

    assert piped.code == 0
    assert piped.result["events"] == piped.result["jobs"] == 1_201
    assert piped.result["decisions"] == {"admitted": 1_201}
    assert joelclaw("queue", "depth").result["by_priority"]["P3"] == 1_201


def test_lines_that_are_envelopes_name_their_own_event(joelclaw: JoelclawProcess) -> None:
    lines = [
        {"name": "content/updated", "data": DATA, "id": "1", "priority": "P0", "source": "sync"},
        {"name": "discovery/noted", "data": {"url": "https://example.org"}},
        {"name": "content/updated", "data": DATA, "id": "1"},
    ]

    piped = joelclaw("emit", "--stdin", stdin="\n".join(json.dumps(line) for line in lines))

    assert piped.result["decisions"] == {"admitted": 2, "duplicate": 1}
    assert [receipt["name"] for receipt in piped.result["receipts"]] == [line["name"] for line in lines]
    assert depth(joelclaw) == 2


def test_one_faulty_line_refuses_them_all_and_every_faulty_one_is_named(joelclaw: JoelclawProcess) -> None:
    lines = [
        json.dumps({"name": "content/updated", "data": DATA}), "{", '{"data": {}}',
        '{"name": "content/updated", "date": {}}', "[]",
        '{"name": "content/updated", "delay_s": "soon"}', '{"name": 7}', '{"name": "x", "meta": true}',
    ]  # fmt: skip

    piped = joelclaw("emit", "--stdin", stdin="\n".join(lines))

    assert (piped.code, piped.error["code"]) == (1, "EVENT_INVALID")
    for part in (
        "line 2",
        "line 3: needs a name",
        "line 4: unknown key 'date'",
        "line 5 must be",
        "line 6: delay_s",
        "line 7: name",
        "line 8: meta",
    ):
        assert part in piped.error["message"]
    assert depth(joelclaw) == 0


def test_one_event_that_the_registry_does_not_know_refuses_them_all(joelclaw: JoelclawProcess) -> None:
    lines = [{"name": "content/updated", "data": DATA}] * 600 + [{"name": "content/nope"}]

    piped = joelclaw("emit", "--stdin", stdin="\n".join(json.dumps(line) for line in lines))

    assert (piped.code, piped.error["code"]) == (1, "EVENT_UNKNOWN")
    assert depth(joelclaw) == 0


def test_no_lines_at_all_emit_nothing(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("emit", "content/updated", "--stdin", stdin="\n")

    assert piped.code == 0
    assert piped.result == {"events": 0, "jobs": 0, "decisions": {}, "receipts": []}


def test_on_a_terminal_the_jobs_are_a_table(joelclaw: JoelclawProcess) -> None:
    seen = joelclaw.on_terminal("emit", "content/updated", "-d", BODY, "--id", "event-1")

    assert (seen.code, seen.stderr) == (0, "")
    assert "content/updated event-1" in seen.screen
    assert "content.validate" in seen.screen
    assert "admitted" in seen.screen
    assert "next:\n  joelclaw queue inspect " in seen.screen


def test_a_spool_that_cannot_take_it_either_is_named_as_what_failed(
    joelclaw_offline: JoelclawProcess, tmp_path: Path
) -> None:
    joelclaw_offline.env["JOELCLAW_SPOOL"] = str(tmp_path)

    piped = joelclaw_offline("emit", "content/updated", "-d", BODY, "--spool")

    assert (piped.code, piped.error["code"]) == (3, "SPOOL_FAILED")
    assert "JOELCLAW_SPOOL" in piped.envelope["fix"]
