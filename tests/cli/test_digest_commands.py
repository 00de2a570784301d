"""joelclaw digest against a real Redis, as a program and as a person use it."""

from __future__ import annotations

from pathlib import Path

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.routines.digest.window import DAY_MS, HOUR_MS
from tests.cli.conftest import JoelclawProcess
from tests.digest.conftest import now_in


def admit(store: Store, count: int) -> None:
    store.admit(
        [
            Job(id=f"n{number}", queue="q", family="note", handler="note.do", lane="q|note.do|", payload="{}")
            for number in range(count)
        ]
    )


def test_a_page_is_made_shown_listed_and_made_anew(joelclaw: JoelclawProcess, store: Store) -> None:
    admit(store, 3)
    hour = now_in(HOUR_MS).name
    assert "DIGEST_NOT_THERE" == joelclaw("digest", "show", hour).error["code"]

    made = joelclaw("digest", "run", "--window", hour)

    assert ("made", "rules", 3) == tuple(made.result[name] for name in ("state", "by", "jobs"))
    assert [f"joelclaw digest show {hour}", "joelclaw digest list"] == made.next_commands
    shown = joelclaw("digest", "show", hour).result
    assert f"# Digest {hour}" in shown["page"]
    assert shown["page"] == Path(shown["path"]).read_text()
    assert [hour] == [each["window"] for each in joelclaw("digest", "list").result["digests"]]

    store.admit([Job(id="n9", queue="q", family="note", handler="note.do", lane="q|note.do|", payload="{}")])
    assert 3 == joelclaw("digest", "run", "--window", hour).result["jobs"]
    assert 4 == joelclaw("digest", "run", "--window", hour, "--again").result["jobs"]


def test_a_person_reads_the_page_and_the_comparison(joelclaw: JoelclawProcess, store: Store) -> None:
    admit(store, 2)
    day = now_in(DAY_MS).name
    joelclaw("digest", "run", "--window", now_in(HOUR_MS).name)
    alone = joelclaw("digest", "compare", day)
    assert (2, None) == (alone.result["windows"]["jobs"], alone.result["single_step"])
    assert f"joelclaw digest run --window {day}" == alone.next_commands[0]
    joelclaw("digest", "run", "--window", day)

    page = joelclaw.on_terminal("digest", "show", day).screen
    table = joelclaw.on_terminal("digest", "compare", day).screen

    assert "2 jobs came: 0 done, 0 failed for good, 0 runs tried again." in page
    assert "window by window" in table
    assert "mean age of what is told" in table


def test_what_is_no_window_is_refused(joelclaw: JoelclawProcess) -> None:
    for command in (("show", "../../etc"), ("run", "--window", "today"), ("compare", now_in(HOUR_MS).name)):
        assert "DIGEST_WINDOW_INVALID" == joelclaw("digest", *command).error["code"]


def test_a_page_that_somebody_moved_away_is_said_to_be_unreadable(
    joelclaw: JoelclawProcess, store: Store
) -> None:
    admit(store, 1)
    hour = now_in(HOUR_MS).name
    Path(joelclaw("digest", "run", "--window", hour).result["path"]).unlink()

    assert "DIGEST_UNREADABLE" == joelclaw("digest", "show", hour).error["code"]
