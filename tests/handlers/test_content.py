"""content/updated: what is checked, what is refused, and when somebody is told."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.event import Event
from joelclaw_tasks.errors import PermanentFailure
from joelclaw_tasks.handlers.content import validate
from joelclaw_tasks.handlers.world import World
from tests.handlers.conftest import Recorder

Check = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(path: str, text: str | bytes = "") -> Path:
        file = tmp_path / "content" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


@pytest.fixture
def run(world: World, event: Callable[..., Event]) -> Check:
    return lambda path: validate(event("content/updated", {"path": path, "source": "test"}), world)


def found(report: dict[str, Any]) -> list[tuple[str, int]]:
    return [(finding["rule"], finding["line"]) for finding in report["findings"]]


def rules(report: dict[str, Any]) -> list[str]:
    return [finding["rule"] for finding in report["findings"]]


def adr(number: str = "0001", *, status: str = "accepted", more: str = "", title: str | None = None) -> str:
    heading = title if title is not None else f"ADR-{number}: Use lanes"
    return f"---\nstatus: {status}\ndate: 2026-03-01\n{more}---\n\n# {heading}\n\nBecause.\n"


ROW = "| [ADR-0001](0001-use-lanes.md) | Use lanes | accepted |\n"
INDEX = "# Decisions\n\n| ADR | Title | Status |\n|---|---|---|\n"


def test_a_sound_note_has_no_findings_and_its_report_is_stored(
    run: Check, write: Write, world: World
) -> None:
    file = write("notes/a.md", "# A\n\nSee [[b]].\n")
    write("notes/b.md")

    report = run("notes/a.md")

    assert {
        "path": "notes/a.md",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "kind": "note",
        "ok": True,
        "finding_count": 0,
        "findings": [],
    } == report
    (stored,) = (world.data_dir / "reports" / "content").glob("*.json")
    assert report | {"announced": "clean"} == json.loads(stored.read_text())


def test_checking_again_writes_and_tells_nothing(
    run: Check, write: Write, world: World, recorder: Recorder
) -> None:
    write("a.md", "[[nowhere]]")
    first = run("a.md")
    (stored,) = (world.data_dir / "reports" / "content").glob("*.json")
    inode = stored.stat().st_ino

    assert first == run("a.md")
    assert inode == stored.stat().st_ino
    assert 1 == len(recorder.told)


def test_only_the_first_finding_and_the_last_are_told(run: Check, write: Write, recorder: Recorder) -> None:
    for text in ("fine", "[[x]]", "[[x]] [[y]]", "[[z]]", "fine", "still fine"):
        write("a.md", text)
        run("a.md")

    assert ["a.md has 1 finding; line 1: [[x]] leads nowhere.", "a.md has no findings any more."] == [
        told["text"] for told in recorder.told
    ]
    assert ["warning", "info"] == [told["severity"] for told in recorder.told]


def test_a_notification_that_fails_is_sent_when_the_job_is_retried(
    world: World, event: Callable[..., Event], write: Write, recorder: Recorder
) -> None:
    def broken(text: str, *, cause: str, severity: str = "info") -> None:
        raise ConnectionError("no sink")

    write("a.md", "[[x]]")
    updated = event("content/updated", {"path": "a.md"})
    with pytest.raises(ConnectionError):
        validate(updated, World(world.data_dir, recorder.emit, broken, world.http))

    validate(updated, world)
    validate(updated, world)

    assert 1 == len(recorder.told)


def test_an_absolute_path_and_a_linked_vault_are_read(run: Check, tmp_path: Path) -> None:
    vault = tmp_path / "elsewhere" / "Vault"
    vault.mkdir(parents=True)
    (vault / "a.md").write_text("fine")
    (tmp_path / "content").symlink_to(vault)

    assert "a.md" == run(str(vault / "a.md"))["path"]
    assert "a.md" == run("a.md")["path"]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.md",
        "/etc/passwd",
        "a/../../secret.md",
        "",
        " ",
        ".",
        "/",
        "link-out.md",
        "loop.md",
        "x\0.md",
        "a" * 5_000,
        "folder.md",
        "pipe.md",
        "image.png",
        "folder.md/x/../../../secret.md",
        "file.md/below.md",
        None,
        5,
        ["a.md"],
    ],
)
def test_a_path_that_must_not_be_read_is_refused_and_nothing_is_stored(
    run: Check, write: Write, world: World, recorder: Recorder, path: object
) -> None:
    (world.data_dir / "secret.md").write_text("secret")
    root = write("file.md", "fine").parent
    (root / "folder.md").mkdir()
    (root / "link-out.md").symlink_to(world.data_dir / "secret.md")
    (root / "loop.md").symlink_to(root / "loop.md")
    os.mkfifo(root / "pipe.md")
    write("image.png", b"\x89PNG")

    with pytest.raises(PermanentFailure):
        run(path)

    assert not (world.data_dir / "reports").exists()
    assert [] == recorder.told


def test_a_file_that_has_gone_is_reported_and_its_last_report_stays(
    run: Check, write: Write, world: World, recorder: Recorder
) -> None:
    file = write("a.md", "fine")
    run("a.md")
    (stored,) = (world.data_dir / "reports" / "content").glob("*.json")
    before = stored.read_text()
    file.unlink()

    report = run("a.md")

    assert (["file.missing"], None, True) == (rules(report), report["sha256"], report["ok"])
    assert (before, []) == (stored.read_text(), recorder.told)


def test_bytes_that_are_not_utf_8_are_a_finding_and_the_rest_is_checked(run: Check, write: Write) -> None:
    write("a.md", b"one\ncaf\xe9\n[[nowhere]]\n")

    assert [("file.encoding", 2), ("link.broken", 3)] == found(run("a.md"))


def test_a_file_over_five_megabytes_is_not_read(run: Check, write: Write) -> None:
    write("a.md", b"x" * 5_000_001)

    assert ["file.too-large"] == rules(run("a.md"))


@pytest.mark.parametrize(
    ("block", "rule", "line"),
    [
        ("title: [unclosed\n", "frontmatter.malformed", 3),
        ("a: b: c\n", "frontmatter.malformed", 2),
        ("- just\n- a list\n", "frontmatter.malformed", 2),
        ("{[a]: b}\n", "frontmatter.malformed", 2),
        ("\tx: 1\n", "frontmatter.malformed", 2),
        ("a: !!python/object/apply:os.system ['false']\nb: \x07\n", "frontmatter.malformed", 1),
        ("a: " + "[" * 5_000 + "\n", "frontmatter.malformed", 1),
        ("a: 1\nb: 2\na: 3\n", "frontmatter.duplicate", 4),
        ("a: " + "x" * 70_000 + "\n", "frontmatter.too-large", 1),
    ],
)
def test_malformed_frontmatter_is_a_finding_and_the_body_is_checked(
    run: Check, write: Write, block: str, rule: str, line: int
) -> None:
    write("a.md", f"---\n{block}---\n[[nowhere]]\n")

    assert [(rule, line), ("link.broken", block.count("\n") + 3)] == sorted(
        found(run("a.md")), key=lambda f: f[1]
    )


def test_frontmatter_without_an_end_is_a_finding_and_all_below_is_body(run: Check, write: Write) -> None:
    write("a.md", "---\ntitle: x\n\n[[nowhere]]\n")

    assert [("frontmatter.unclosed", 1), ("link.broken", 4)] == found(run("a.md"))


def test_a_sound_decision_has_no_findings(run: Check, write: Write) -> None:
    write("decisions/README.md", INDEX + ROW)
    write("decisions/0001-use-lanes.md", adr())

    report = run("decisions/0001-use-lanes.md")

    assert ("adr", [], True) == (report["kind"], report["findings"], report["ok"])
    assert [] == run("decisions/README.md")["findings"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# ADR-0001: Use lanes\n", [("adr.frontmatter", 1)]),
        ("---\ndate: 2026-03-01\n---\n# Use lanes\n", [("adr.field-missing", 1)]),
        ("---\nstatus:\ndate: 2026-03-01\n---\n# Use lanes\n", [("adr.field-missing", 2)]),
        ("---\nstatus: accepted\n---\n# Use lanes\n", [("adr.field-missing", 1)]),
        ("---\nstatus: accepted\ndate: 2026-03-01\n---\nno title\n", [("adr.field-missing", 1)]),
        (adr(more="title: Use lanes\n"), []),
        (adr().replace("2026-03-01", "yesterday"), [("adr.date", 3)]),
        (adr().replace("2026-03-01", "2026-03-01T10:00:00Z"), []),
        (adr(title="ADR-0002: Use lanes"), [("adr.number", 1)]),
        (adr(title="2. Use lanes"), [("adr.number", 1)]),
        (adr(title="Use lanes"), []),
        (adr(more="number: 0001\n"), []),
        (adr(more="number: 12\n"), [("adr.number", 4)]),
        (adr(more="id: ADR-7\n"), [("adr.number", 4)]),
    ],
)
def test_fields_and_numbers_of_a_decision(
    run: Check, write: Write, text: str, expected: list[tuple[str, int]]
) -> None:
    write("decisions/README.md", INDEX + ROW)
    write("decisions/0001-use-lanes.md", text)

    assert expected == found(run("decisions/0001-use-lanes.md"))


@pytest.mark.parametrize("status", ["proposed", "accepted", "shipped", "deprecated", "rejected"])
def test_known_statuses_are_accepted(run: Check, write: Write, status: str) -> None:
    write("decisions/README.md", INDEX + ROW.replace("accepted", status))
    write("decisions/0001-use-lanes.md", adr(status=status))

    assert [] == run("decisions/0001-use-lanes.md")["findings"]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("Accepted", "write accepted"),
        ("superseded by ADR-2", "write superseded"),
        ("done", "use one of proposed, accepted"),
        ("[accepted]", "use one of"),
        ("{a: b}", "use one of"),
    ],
)
def test_an_unknown_status_is_named_with_advice(run: Check, write: Write, status: str, advice: str) -> None:
    write("decisions/0001-use-lanes.md", adr(status=status))

    (finding,) = [
        each for each in run("decisions/0001-use-lanes.md")["findings"] if each["rule"] == "adr.status"
    ]
    assert (2, "error") == (finding["line"], finding["severity"])
    assert advice in finding["message"]


@pytest.mark.parametrize(
    "target",
    [
        "0012",
        "12",
        "ADR-0012",
        "adr 12",
        "0012-next",
        "0012-next.md",
        "./0012-next.md",
        "[[0012-next]]",
        '"[[0012-next]]"',
        '"[[0012-next|ADR-12]]"',
        "[0012-next, ADR-0013]",
    ],
)
def test_a_successor_may_be_written_in_any_of_the_usual_ways(run: Check, write: Write, target: str) -> None:
    write("decisions/0001-use-lanes.md", adr(status="superseded", more=f"superseded-by: {target}\n"))
    write("decisions/0012-next.md", adr("0012"))
    write("decisions/0013-other.md", adr("0013"))

    assert ["adr.index-absent"] == rules(run("decisions/0001-use-lanes.md"))


@pytest.mark.parametrize(
    ("status", "more", "severity"),
    [
        ("superseded", "", "error"),
        ("superseded", "superseded-by:\n", "error"),
        ("superseded", "superseded-by: 0010\n", "error"),  # YAML 1.1 reads 0012 as ten
        ("superseded", "superseded-by: 0099-gone\n", "error"),
        ("superseded", "superseded-by: 0012-other-slug\n", "error"),
        ("superseded", "superseded-by: 0001\n", "error"),
        ("superseded", "superseded-by: the next one\n", "error"),
        ("superseded", "superseded-by: [0012-next, 0099]\n", "error"),
        ("accepted", "superseded-by: 0012\n", "warning"),
    ],
)
def test_a_successor_that_is_missing_or_does_not_exist_is_a_finding(
    run: Check, write: Write, status: str, more: str, severity: str
) -> None:
    write("decisions/0001-use-lanes.md", adr(status=status, more=more))
    write("decisions/0012-next.md", adr("0012"))

    findings = run("decisions/0001-use-lanes.md")["findings"]

    assert [severity] == [each["severity"] for each in findings if each["rule"] == "adr.superseded-by"]


def test_two_decisions_of_one_number_are_a_finding_of_both(run: Check, write: Write) -> None:
    write("decisions/0001-use-lanes.md", adr())
    write("decisions/0001-use-gates.md", adr())
    write("elsewhere/decisions/0001-use-doors.md", adr())

    for name in ("lanes", "gates"):
        assert "adr.duplicate-number" in rules(run(f"decisions/0001-use-{name}.md"))
    assert "adr.duplicate-number" not in rules(run("elsewhere/decisions/0001-use-doors.md"))


@pytest.mark.parametrize(
    ("path", "kind", "canonical"),
    [
        ("decisions/0001-use-lanes.md", "adr", True),
        ("adr/1-use-lanes.md", "adr", False),
        ("decisions/0001-Use-Lanes.md", "adr", False),
        ("decisions/0001_use_lanes.md", "adr", False),
        ("decisions/0001-.md", "adr", False),
        ("elsewhere/0001-use-lanes.md", "adr", True),
        ("notes/2026-03-01.md", "note", True),
        ("notes/2026-03-review.md", "note", True),
        ("decisions/README.md", "note", True),
        ("decisions/template.md", "note", True),
    ],
)
def test_what_is_a_decision_and_how_it_must_be_named(
    run: Check, write: Write, path: str, kind: str, canonical: bool
) -> None:
    write(path, adr())

    report = run(path)

    assert (kind, canonical) == (report["kind"], "adr.filename" not in rules(report))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, []),
        ("", ["adr.index-missing"]),
        (f"```\n{ROW}```\n", ["adr.index-missing"]),
        (ROW.replace("accepted", "proposed"), ["adr.index-mismatch"]),
        (ROW.replace("accepted", "**Accepted**"), []),
        (ROW.replace("ADR-0001", "ADR-0002"), ["adr.index-mismatch"]),
        (ROW.replace("Use lanes", "Use gates"), ["adr.index-mismatch"]),
        ("| [[0001-use-lanes\\|ADR-0001]] | Use lanes | accepted |\n", []),
        ("| 0001 | [Use lanes](./0001-use-lanes.md) | accepted |\n", []),
        ("| 0003 | [Use lanes](./0001-use-lanes.md) | accepted |\n", ["adr.index-mismatch"]),
        ("\n- [ADR-0001: Use lanes](0001-use-lanes.md)\n", []),
        ("\n- [ADR-0009: Use lanes](0001-use-lanes.md)\n", ["adr.index-mismatch"]),
    ],
)
def test_the_index_must_have_a_row_that_agrees(
    run: Check, write: Write, row: str, expected: list[str]
) -> None:
    write("decisions/README.md", INDEX + row)
    write("decisions/0001-use-lanes.md", adr())

    assert expected == rules(run("decisions/0001-use-lanes.md"))
    assert expected == rules(run("decisions/README.md"))


def test_an_index_row_without_a_decision_is_a_finding_of_the_index(run: Check, write: Write) -> None:
    write("decisions/README.md", INDEX + ROW + ROW.replace("0001-use-lanes", "0002-gone"))
    write("decisions/0001-use-lanes.md", adr())

    assert [("adr.index-stale", 6)] == found(run("decisions/README.md"))


def test_malformed_frontmatter_of_a_decision_is_one_finding_not_many(run: Check, write: Write) -> None:
    write("decisions/README.md", INDEX + ROW)
    write("decisions/0001-use-lanes.md", "---\nstatus: [\n---\n# Use lanes\n\n[[nowhere]]\n")

    assert ["frontmatter.malformed", "link.broken"] == sorted(rules(run("decisions/0001-use-lanes.md")))
