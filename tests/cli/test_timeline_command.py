"""joelclaw queue timeline against a real Redis."""

from __future__ import annotations

from joelclaw_tasks.core.store import Store
from tests.cli.conftest import JoelclawProcess
from tests.cli.test_queue_commands import plain_job


def test_the_moves_of_a_job_are_told_from_its_admission_on(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("mine", actor="joel@cli"), plain_job("other")])
    store.pause("pause:queue/default", actor="joel@cli", reason="the NAS is away")
    store.claim(["default"], 2, "w")
    store.resume("pause:queue/default", actor="joel@cli")
    tags = [job.tag for job in store.claim(["default"], 2, "w").jobs]
    store.discard(tags[0], "Traceback\nValueError: no")

    piped = joelclaw("queue", "timeline", "mine")

    assert piped.code == 0
    assert piped.result["complete"] is True
    assert piped.result["state"] == "discarded"
    assert [move["verb"] for move in piped.result["moves"]] == ["admit", "claim", "discard"]
    assert piped.result["moves"][0]["actor"] == "joel@cli"
    assert piped.result["moves"][2]["reason"] == "Traceback\nValueError: no"
    assert piped.next_commands[0] == "joelclaw queue inspect mine"


def test_a_timeline_is_readable(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("mine", actor="joel@cli")])
    store.pause("pause:queue/default", actor="joel@cli", reason="the \x1b[2J NAS is away")
    store.claim(["default"], 2, "w")

    seen = joelclaw.on_terminal("queue", "timeline", "mine")

    assert (seen.code, seen.stderr) == (0, "")
    assert seen.screen.startswith("mine available\nshop.tasks.add\n")
    assert "admit → available by joel@cli · P2" in seen.screen
    assert "behind pause:queue/default (joel@cli: the \\x1b[2J NAS is away)" in seen.screen


def test_a_job_whose_moves_were_trimmed_says_so(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("mine")])
    store.claim(["default"], 1, "w")
    store.client.xtrim(store.keys.transitions, maxlen=1, approximate=False)

    piped = joelclaw("queue", "timeline", "mine")

    assert piped.result["complete"] is False
    assert [move["verb"] for move in piped.result["moves"]] == ["claim"]
    screen = joelclaw.on_terminal("queue", "timeline", "mine").screen
    assert "its first moves are no longer kept: the stream begins at" in screen

    store.client.delete(store.keys.transitions)
    piped = joelclaw("queue", "timeline", "mine")
    assert (piped.result["moves"], piped.result["state"]) == ([], "executing")
    assert "the stream is empty" in joelclaw.on_terminal("queue", "timeline", "mine").screen


def test_a_plain_job_that_is_over_is_known_by_its_moves(joelclaw: JoelclawProcess, store: Store) -> None:
    store.admit([plain_job("mine")])
    [job] = store.claim(["default"], 1, "w").jobs
    store.complete([job.tag])

    piped = joelclaw("queue", "timeline", "mine")

    assert (piped.result["state"], piped.result["family"]) == ("completed", "shop.tasks.add")
    assert piped.next_commands == ["joelclaw queue stats"]


def test_a_job_that_never_was_is_missing(joelclaw: JoelclawProcess) -> None:
    piped = joelclaw("queue", "timeline", "nope")

    assert (piped.code, piped.error["code"]) == (1, "QUEUE_MESSAGE_MISSING")
