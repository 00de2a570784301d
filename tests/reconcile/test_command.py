"""joelclaw queue reconcile as a person and a program use it."""

from __future__ import annotations

from pathlib import Path

import pytest

from joelclaw_tasks.replay import replay
from tests.cli.test_steering_commands import on_a_terminal
from tests.reconcile.conftest import Near, joelclaw_at


@pytest.fixture
def joelclaw(near: Near):
    return joelclaw_at(near, near.results)


def lose_three(near: Near) -> None:
    near.emit_while_away("a", "b", "c")
    replay(near.settings)
    near.lose_all()


def test_on_a_terminal_a_person_is_asked_before_anything_is_mended(near: Near, joelclaw):
    lose_three(near)
    near.emit_while_away("d")
    code, screen = on_a_terminal(joelclaw, "n\n", "queue", "reconcile", "--apply")
    assert (1, 0) == (code, near.store.history.extent().length)
    assert "mend 4 findings (1 waiting, 3 lost)?" in screen
    assert "QUEUE_NOT_CONFIRMED" in screen

    code, screen = on_a_terminal(joelclaw, "y\n", "queue", "reconcile", "--apply")
    assert (0, 4) == (code, near.store.snapshot()["total"])
    assert "1 waiting (1 sent), 3 lost (3 sent again)" in screen
    code, screen = on_a_terminal(joelclaw, "", "queue", "reconcile", "--apply")
    assert 0 == code
    assert "nothing was lost that could be found" in screen
    assert "[y/N]" not in screen


def test_a_person_sees_each_kind_with_what_mends_it_and_some_of_it(near: Near, joelclaw):
    lose_three(near)
    near.spool.write_bytes(b"\x1b[2Jgarbage\n")
    seen = joelclaw.on_terminal("queue", "reconcile")
    assert (0, 0) == (seen.code, near.store.history.extent().length)
    for part in (
        "3 lost, 1 unreadable",
        "being sent again",
        "event=a sent_at=20",
        "Find out who wrote them.",
    ):
        assert part in seen.screen
    assert "joelclaw queue reconcile --apply" in seen.screen
    assert "\x1b" not in seen.screen


def test_what_comes_next_can_be_run_as_it_stands(near: Near, joelclaw, tmp_path: Path):
    lose_three(near)
    near.admit("ran")
    near.store_result("ran")
    spool = tmp_path / "with blank.jsonl"
    near.spool.with_name("spool.jsonl.sent").rename(tmp_path / "with blank.jsonl.sent")
    piped = joelclaw("queue", "reconcile", "-A", "note_app", "--spool", str(spool))
    line = f"joelclaw queue reconcile --apply --app note_app --spool '{spool}'"
    assert line == piped.next_commands[0]

    piped = joelclaw("queue", "reconcile", "--apply", "-A", "note_app", "--spool", str(spool))
    [act] = piped.result["cancelled"]
    assert f"joelclaw queue undo {act}" == piped.next_commands[0]
    assert 1 == joelclaw("queue", "undo", act).result["jobs"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no_such_module", "no Celery app can be loaded from 'no_such_module': ModuleNotFoundError"),
        ("note_app:did", "'note_app:did' is no Celery app"),
    ],
)
def test_an_app_that_is_none_is_a_matter_of_usage(near: Near, joelclaw, name: str, why: str):
    piped = joelclaw("queue", "reconcile", "--app", name)
    assert (2, "USAGE", why) == (piped.code, piped.error["code"], piped.error["message"])


def test_what_an_app_prints_when_it_is_loaded_does_not_spoil_the_answer(near: Near, joelclaw, tmp_path: Path):
    (tmp_path / "loud.py").write_text("print('hello')\nfrom note_app import app\n")
    piped = joelclaw("queue", "reconcile", "--app", "loud")
    assert ([], "hello\n") == (piped.result["findings"], piped.stderr)
