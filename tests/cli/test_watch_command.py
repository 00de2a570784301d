"""joelclaw queue watch: on a real terminal, and piped."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from joelclaw_tasks.core.store import Store
from tests.cli.conftest import PROGRAM, JoelclawProcess
from tests.cli.live_terminal import LiveTerminal
from tests.cli.rules import check_envelope
from tests.cli.test_queue_commands import plain_job
from tests.conftest import free_port, start_redis, wait_until

WATCH = ("queue", "watch", "--interval", "0.2")
ADD, MAIL = "shop.tasks.add", "shop.tasks.mail"


@pytest.fixture
def busy(store: Store) -> Store:
    """Two waiting jobs of one family, one of another, and a failure."""
    families = [ADD, ADD, ADD, MAIL]
    store.admit([plain_job(f"{n}", family=each, lane=f"default/{each}") for n, each in enumerate(families)])
    [first] = store.claim(["default"], 1, "w").jobs
    store.discard(first.tag, "Traceback\nValueError: \x1b[2J no")
    return store


def paused(store: Store) -> list[str]:
    return [pause["gate"] for pause in store.snapshot()["pauses"]]


def test_the_queue_is_shown_as_it_moves(joelclaw: JoelclawProcess, busy: Store) -> None:
    with LiveTerminal(joelclaw, *WATCH) as terminal:
        picture = terminal.shows("3 waiting")
        assert f"> {ADD}" in picture
        assert f"  {MAIL}" in picture
        assert "ValueError: \\x1b[2J no" in picture

        busy.admit([plain_job("new", family="shop.tasks.new")])

        assert "shop.tasks.new" in terminal.shows("4 waiting")
        lines = terminal.picture.split("\n")
        assert len(lines) == 24
        assert max(map(len, lines)) <= 80
        terminal.press("q")
        assert terminal.ends() == 0
        assert terminal.is_restored


def test_keys_select_pause_resume_and_inspect(joelclaw: JoelclawProcess, busy: Store) -> None:
    with LiveTerminal(joelclaw, *WATCH) as terminal:
        terminal.shows(f"> {ADD}")
        terminal.press("\x1b[B")
        terminal.shows(f"> {MAIL}")
        terminal.press("k")
        terminal.shows(f"> {ADD}")
        terminal.press("jp")

        terminal.shows(f"paused {MAIL} for 15 min")
        assert f"> {MAIL} (paused)" in terminal.shows(f"pause:family/{MAIL}")
        assert paused(busy) == [f"pause:family/{MAIL}"]
        [record] = busy.snapshot()["pauses"]
        assert (record["actor"], record["reason"]) == ("joel@cli", "from queue watch")
        assert record["expires_at"] - record["paused_at"] == 900_000

        terminal.press("p")
        terminal.shows(f"{MAIL} is paused already, by joel@cli")
        terminal.press("i")
        terminal.shows("1 job behind")
        assert "i or escape back" in terminal.picture
        terminal.press("\x1b")
        terminal.shows(f"> {MAIL} (paused)")
        terminal.press("r")
        terminal.shows(f"resumed {MAIL}")
        assert paused(busy) == []
        terminal.press("r")
        terminal.shows(f"{MAIL} was not paused")


def test_a_pause_of_somebody_else_is_not_replaced(joelclaw: JoelclawProcess, busy: Store) -> None:
    before = busy.pause(f"pause:family/{ADD}", actor="amy@cli", reason="stock-taking")
    with LiveTerminal(joelclaw, *WATCH) as terminal:
        terminal.shows(f"> {ADD} (paused)")
        terminal.press("p")
        terminal.shows(f"{ADD} is paused already, by amy@cli")

    [record] = busy.snapshot()["pauses"]
    assert (record["actor"], record["paused_at"]) == ("amy@cli", before["paused_at"])


@pytest.mark.parametrize(
    ("end", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["ctrl-c", "terminate", "hang-up"],
)
def test_a_signal_leaves_the_terminal_as_it_was(
    joelclaw: JoelclawProcess, busy: Store, end: signal.Signals, code: int
) -> None:
    with LiveTerminal(joelclaw, *WATCH) as terminal:
        terminal.shows("3 waiting")
        terminal.process.send_signal(end)
        assert terminal.ends() == code
        assert terminal.is_restored


def test_an_error_leaves_the_terminal_as_it_was_and_is_told(joelclaw: JoelclawProcess, busy: Store) -> None:
    with LiveTerminal(joelclaw, *WATCH) as terminal:
        terminal.shows("3 waiting")
        busy.client.set(busy.keys.counts, "no hash")
        assert terminal.ends() == 1
        assert terminal.is_restored
        assert "INTERNAL_ERROR" in terminal.seen
        assert "WRONGTYPE" in terminal.seen


def test_it_fits_a_small_terminal_and_follows_its_size(joelclaw: JoelclawProcess, busy: Store) -> None:
    with LiveTerminal(joelclaw, *WATCH, size=(40, 8)) as terminal:
        terminal.shows("> shop.tasks.add")
        assert len(terminal.picture.split("\n")) == 8
        terminal.resize(100, 30)
        terminal.shows(lambda picture: len(picture.split("\n")) == 30)
        assert "newest failures" in terminal.picture


def test_redis_that_goes_away_is_shown_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    server = start_redis(tmp_path, port)
    joelclaw = JoelclawProcess(tmp_path, f"redis://127.0.0.1:{port}/0")
    try:
        with LiveTerminal(joelclaw, *WATCH) as terminal:
            terminal.shows("0 waiting")
            server.terminate()
            server.wait(10)
            terminal.shows("Redis has not answered for")
            terminal.press("p")  # nothing is selected: nothing happens
            server = start_redis(tmp_path, port)
            terminal.shows(lambda picture: "Redis has not answered" not in picture and "0 waiting" in picture)
            terminal.press("q")
            assert terminal.ends() == 0
    finally:
        server.terminate()
        server.wait(10)


def test_redis_that_hangs_is_shown_and_keys_still_work(tmp_path: Path) -> None:
    server = start_redis(tmp_path, port := free_port())
    joelclaw = JoelclawProcess(tmp_path, f"redis://127.0.0.1:{port}/0")
    try:
        with LiveTerminal(joelclaw, *WATCH) as terminal:
            terminal.shows("0 waiting")
            server.send_signal(signal.SIGSTOP)
            terminal.shows("Redis has not answered for")
            terminal.press("q")
            assert terminal.ends() == 0
            assert terminal.is_restored
    finally:
        server.send_signal(signal.SIGCONT)
        server.terminate()
        server.wait(10)


def test_it_ends_by_itself_after_so_many_looks(joelclaw: JoelclawProcess, busy: Store) -> None:
    with LiveTerminal(joelclaw, *WATCH, "--count", "2") as terminal:
        assert terminal.ends() == 0
        assert terminal.is_restored


def test_a_redis_that_is_not_there_is_an_error_at_once(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"

    seen = joelclaw_offline.on_terminal("queue", "watch")

    assert (seen.code, seen.screen) == (3, "")
    assert "REDIS_UNREACHABLE" in seen.stderr


# -- piped ------------------------------------------------------------------------------------


def lines_of(stdout: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def test_piped_it_prints_a_line_per_look_and_the_envelope_last(
    joelclaw: JoelclawProcess, busy: Store
) -> None:
    done = joelclaw.raw(*WATCH, "--count", "2")

    start, first, second, result = lines_of(done.stdout)
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line["type"] for line in (start, first, second, result)] == ["start", "event", "event", "result"]
    assert first["snapshot"]["total"] == 3
    assert first["snapshot"]["rates"]["admitted"] > 0
    assert [job["family"] for job in second["snapshot"]["failures"]] == [ADD]
    assert second["at"] - first["at"] >= 200
    assert result["result"] == {"looks": 2}
    check_envelope({name: value for name, value in result.items() if name not in {"type", "at"}})


def test_piped_it_ends_with_an_envelope_when_redis_is_not_there(joelclaw_offline: JoelclawProcess) -> None:
    joelclaw_offline.env["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"

    done = joelclaw_offline.raw(*WATCH)

    *_, error = lines_of(done.stdout)
    assert (done.returncode, error["type"], error["error"]["code"]) == (3, "error", "REDIS_UNREACHABLE")


def test_piped_it_outlives_an_outage_and_ends_with_an_envelope_on_ctrl_c(tmp_path: Path) -> None:
    server = start_redis(tmp_path, port := free_port())
    joelclaw = JoelclawProcess(tmp_path, f"redis://127.0.0.1:{port}/0")
    out = tmp_path / "out"
    with out.open("wb") as stdout:
        process = subprocess.Popen([*PROGRAM, *WATCH], stdout=stdout, env=joelclaw.env, cwd=tmp_path)
    try:

        def kinds() -> list[str]:
            return [line["type"] for line in lines_of(out.read_bytes().rpartition(b"\n")[0])]

        wait_until(lambda: "event" in kinds(), "the first look")
        server.terminate()
        server.wait(10)
        wait_until(lambda: "log" in kinds(), "the outage is told")
        server = start_redis(tmp_path, port)
        wait_until(lambda: kinds().count("log") == 2 and kinds()[-1] == "event", "looks after the outage")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert lines_of(out.read_bytes())[-1]["error"]["code"] == "INTERRUPTED"
    finally:
        process.kill()
        process.wait(10)
        server.terminate()
        server.wait(10)


def test_piped_it_ends_when_nobody_reads_any_more(joelclaw: JoelclawProcess) -> None:
    with subprocess.Popen(
        [*PROGRAM, *WATCH],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=joelclaw.env,
        cwd=joelclaw.home,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_looking_writes_nothing(joelclaw: JoelclawProcess, busy: Store, client: redis.Redis) -> None:
    changes = client.info("persistence")["rdb_changes_since_last_save"]

    joelclaw.raw(*WATCH, "--count", "2")

    assert client.info("persistence")["rdb_changes_since_last_save"] == changes
