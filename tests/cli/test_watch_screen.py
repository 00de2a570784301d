"""The screen of queue watch: every picture fits every terminal, and reads well at 80 x 24."""

from __future__ import annotations

import os
import pty
from typing import Any

import pytest

from joelclaw_tasks.cli.keyboard import Keyboard
from joelclaw_tasks.cli.watch_screen import draw
from joelclaw_tasks.cli.watch_state import WatchState
from joelclaw_tasks.core.rank import PRIORITIES
from joelclaw_tasks.core.states import State

NOW = 1_772_911_985_000
NO_RATES = {"admitted": 0.0, "started": 0.0, "completed": 0.0, "failed": 0.0}


def family(name: str, waiting: int = 0, oldest_age_ms: int | None = None, **rates: float) -> dict[str, Any]:
    return {
        "family": name, "total": waiting, "oldest_age_ms": oldest_age_ms, "rates": {**NO_RATES, **rates},
        "by_priority": {**dict.fromkeys(PRIORITIES, 0), "P2": waiting},
        "by_state": {**{state.value: 0 for state in State}, "available": waiting},
    }  # fmt: skip


def picture(*families: dict[str, Any], **parts: Any) -> dict[str, Any]:
    waiting = sum(each["total"] for each in families)
    return {
        "taken_at_ms": NOW, "total": waiting, "oldest_age_ms": None, "families": list(families),
        "by_state": {**{state.value: 0 for state in State}, "available": waiting}, "queues": {},
        "by_priority": {}, "gates": [], "pauses": [], "rates": NO_RATES, "failures": [], **parts,
    }  # fmt: skip


def state_of(*families: dict[str, Any], **parts: Any) -> WatchState:
    return WatchState("localhost:6379", NOW, 3_000, picture(*families, **parts))


def drawn(state: WatchState, width: int = 80, height: int = 24, now: int = NOW) -> list[str]:
    return [line.plain.rstrip() for line in draw(state, width, height, now)]


def test_an_empty_queue_says_so() -> None:
    lines = drawn(state_of())

    assert lines[0] == "joelclaw queue · localhost:6379 · 19:33:05 UTC"
    assert lines[1] == "0 waiting · 0 running · 0 dead"
    assert lines[2] == "nothing has moved in the last 10 s"
    assert lines[4] == "nothing is queued, and nothing runs"


def test_numbers_stand_under_their_headings_at_80_columns() -> None:
    busy = family("content/updated", 1_234_567, 2_641_000, admitted=1234.5, completed=99.94, failed=0.1)

    lines = drawn(state_of(busy, rates={**NO_RATES, "admitted": 12.0, "failed": 0.1}))

    assert lines[2] == "per second: 12.0 admitted, 0.1 failed"
    assert lines[4] == "  family                      waiting running  dead   in/s done/s fail/s oldest"
    assert lines[5] == "> content/updated           1,234,567       -     -  1,234   99.9    0.1    44m"
    assert "" == lines[-2]
    assert lines[-1] == "up/down move · p pause 15 min · r resume · i inspect · q quit"


def test_gates_and_failures_are_told_below() -> None:
    lines = drawn(
        state_of(
            family("a", 1),
            pauses=[
                {"gate": "pause:family/a", "actor": "joel", "reason": "why", "expires_at": NOW + 600_000},
                {"gate": "pause:queue/io", "actor": "amy"},
            ],
            gates=[
                {"gate": "limit:x", "kind": "limit", "shut": True, "limit": 2, "running": 2,
                 "parked_lanes": 1},
                {"gate": "pause:family/a", "kind": "pause", "shut": True, "limit": None, "running": 0,
                 "parked_lanes": 1},
            ],
            failures=[{"id": "1", "family": "a", "error": "T\nValueError: no", "discarded_at": NOW - 61_000}],
        )
    )  # fmt: skip

    assert lines[5].startswith("> a (paused) ")
    assert lines[6:13] == [
        "",
        "  gates",
        "  pause:family/a  10 min 0 s left, by joel: why",
        "  pause:queue/io  until resumed, by amy",
        "  limit:x  2 of 2 running  1 lane behind it",
        "",
        "  newest failures",
    ]
    assert lines[13] == "    1m ago  a                     ValueError: no"


def test_a_picture_that_is_old_says_so() -> None:
    state = state_of(family("a", 1))

    assert "Redis has not answered" not in "\n".join(drawn(state, now=NOW + 3_000))
    assert drawn(state, now=NOW + 4_000)[1] == (
        "Redis has not answered for 4.0 s; what you see is old. Trying again."
    )


def test_the_selected_family_stays_in_sight_whichever_way_it_goes() -> None:
    state = state_of(*(family(f"family-{n:02}", 100 - n) for n in range(40)))

    assert "> family-00" in "\n".join(drawn(state))
    state.move(25)
    lines = drawn(state)
    assert any(line.startswith("> family-25") for line in lines)
    assert any("of 40 families" in line for line in lines)
    state.move(-1_000)
    assert any(line.startswith("> family-00") for line in drawn(state))
    state.move(1_000)
    assert any(line.startswith("> family-39") for line in drawn(state))


def test_the_selection_follows_its_family_and_not_its_row() -> None:
    state = state_of(family("a", 9), family("b", 5))
    drawn(state)
    state.move(1)
    state.picture = picture(family("b", 50), family("a", 9))

    assert any(line.startswith("> b") for line in drawn(state))
    state.picture = picture(family("a", 9))
    assert any(line.startswith("> a") for line in drawn(state))


def test_a_family_of_which_nothing_is_left_is_not_shown_unless_it_moves() -> None:
    lines = "\n".join(drawn(state_of(family("gone"), family("moves", completed=1.0))))

    assert "gone" not in lines
    assert "moves" in lines


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60), (20, 5), (1, 1), (81, 7)])
@pytest.mark.parametrize("detail", [False, True])
def test_every_picture_fits_every_terminal(size: tuple[int, int], detail: bool) -> None:
    state = state_of(
        *(family(f"a very long name of a family, number {n} \x1b[2J 漢字", n) for n in range(30)),
        pauses=[{"gate": f"pause:queue/{n}", "actor": "joel"} for n in range(30)],
        failures=[{"id": "1", "family": "a" * 90, "error": "\n" * 3, "discarded_at": None}] * 10,
    )
    if detail:
        state.detail = {"family": "x", "by_gate": [], "next": None, "jobs": []}
    width, height = size

    lines = draw(state, width, height, NOW)

    assert len(lines) == height
    assert max(line.cell_len for line in lines) <= width
    assert "\x1b" not in "".join(line.plain for line in lines)


def test_the_detail_says_what_holds_the_family_and_when_its_next_job_starts() -> None:
    state = state_of(family("a", 12))
    state.detail = {
        "family": "a",
        "by_gate": [
            {"gate": "limit:x", "opens_when": "a job ends", "opens_at": None, "jobs": 11, "lanes": 1},
            {"gate": "pause:family/a", "opens_when": "its time is over", "opens_at": NOW + 60_000, "jobs": 1,
             "actor": "joel", "reason": "why"},
            {"gate": None, "jobs": 2, "lanes": 1},
        ],
        "next": {"asked_at": NOW, "estimated_start": {"at": NOW + 5_000, "basis": "7 runs"}},
        "jobs": [{"id": "j1", "priority": "P1", "age_ms": 900, "gate": "limit:x"}],
    }  # fmt: skip

    assert drawn(state)[4:17] == [
        "a",
        "12 available; waiting: 12 P2",
        "",
        "11 jobs behind limit:x",
        "    opens when a job ends",
        "1 job behind pause:family/a",
        "    opens when its time is over (in 1m)",
        "    shut by joel: why",
        "2 jobs may start as soon as a worker is free",
        "the next one starts in about 5.0s",
        "    7 runs",
        "",
        "  next jobs",
    ]


@pytest.mark.parametrize(
    ("pressed", "keys"),
    [
        (b"q", ["q"]), (b"\x1b[A\x1b[B", ["up", "down"]), (b"\x1bOA", ["up"]), (b"\x1b", ["escape"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]), (b"jp", ["j", "p"]), (b"\x1b[1;5A", [""]),
        (b"\xff", ["\ufffd"]), (b"\x1b\x1b", ["escape", "escape"]),
    ],
)  # fmt: skip
def test_keys_have_names(pressed: bytes, keys: list[str]) -> None:
    end, program_end = pty.openpty()
    with os.fdopen(program_end) as terminal, Keyboard(terminal) as keyboard:
        os.write(end, pressed)
        assert list(keyboard.read()) == keys
    os.close(end)


def test_what_is_no_terminal_has_no_keys(tmp_path: Any) -> None:
    for source in (None, (tmp_path / "empty").open("w+")):
        with Keyboard(source) as keyboard:
            assert not keyboard.is_there
        if source is not None:
            source.close()
