"""joelclaw demo: a whole fleet, real events through its real ingress, and what became of them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from joelclaw_tasks.cli.envelope import CommandFailed, without_passwords
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import console_of, table, text, write

if TYPE_CHECKING:
    from joelclaw_tasks.cli.demo_events import Reply
    from joelclaw_tasks.cli.demo_tally import Tally

_READY_WITHIN_S = 60.0
_DONE_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 60.0


def demo() -> None:
    """Start a fleet of its own, send it real events, show what became of them, stop it again.

    24 signed webhooks at once and one event of each other family, over HTTP. Everything is on
    free ports and in a temporary home that is gone afterwards. The last line is JSON.
    """
    from joelclaw_tasks.cli.demo_events import feed_server, lay_out_files, send_all

    progress().be_silent()
    webhook_secret, events_token = secrets.token_hex(32), secrets.token_hex(32)
    env = _clean_environment() | {
        "GITHUB_WEBHOOK_SECRET": webhook_secret,
        "JOELCLAW_EVENTS_TOKEN": events_token,
    }
    began = time.monotonic()
    with _end_on_sigterm(), tempfile.TemporaryDirectory(prefix="joelclaw-demo-") as folder:
        home = Path(folder) / "home"
        with _fleet(home, env) as urls, feed_server() as feed_url:
            _say(f"the fleet is ready after {time.monotonic() - began:.1f} s: {urls['ingress_url']}")
            lay_out_files(home / "data", feed_url)
            replies = send_all(urls["ingress_url"], webhook_secret=webhook_secret, events_token=events_token)
            refused = [reply for reply in replies if not reply.accepted]
            tally, depth = _follow(urls["redis_url"], expected=len(replies) - len(refused))
        _say("the fleet has stopped")
    _show(tally, replies)
    for complaint in [f"refused with {reply.status}: {reply.text}" for reply in refused] + tally.reasons:
        _say(complaint)
    totals = {**tally.totals(), "depth": depth}
    write(json.dumps(totals))
    done = totals["started"] == totals["completed"] >= len(replies) and not totals["failed"] and depth == 0
    if refused or not done:
        raise typer.Exit(1)


def _clean_environment() -> dict[str, str]:
    """The environment without settings of ours: the demo is about itself, not about a fleet of yours."""
    names = {"REDIS_URL", "GITHUB_WEBHOOK_SECRET"}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in names and not name.startswith("JOELCLAW_")
    }


@contextlib.contextmanager
def _fleet(home: Path, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A fleet from ready to stopped; its URLs. Raises CommandFailed when it does not start or stop."""
    from joelclaw_tasks.fleet.tether import tether

    process = subprocess.Popen(
        [sys.executable, "-m", "joelclaw_tasks.cli.app", "up", "--json", "--home", str(home)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours to pass on
        preexec_fn=tether(),  # noqa: PLW1509 - no other thread of ours holds a lock then
    )
    with process:
        try:
            yield _urls_of(process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(_STOPPED_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise _failed("the fleet did not stop", home) from None
    if code != 0:
        raise _failed(f"the fleet ended with exit code {code}", home)


def _urls_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    overdue = threading.Timer(_READY_WITHIN_S, process.terminate)
    overdue.start()
    try:
        line = process.stdout.readline()
    finally:
        overdue.cancel()
    answer = json.loads(line) if line.strip() else {}
    if not answer.get("ok"):
        error = answer.get("error") or {"message": f"it was not ready within {_READY_WITHIN_S:g} s"}
        raise CommandFailed(
            f"the fleet did not start: {error['message']}",
            code=error.get("code", "FLEET_ERROR"),
            fix=answer.get("fix") or "`joelclaw doctor` names what is missing.",
        )
    return dict(answer["result"])


def _failed(message: str, home: Path) -> CommandFailed:
    tails = [
        f"{log.name}: {line}"
        for log in sorted((home / "logs").glob("*.log"))
        for line in log.read_text(errors="replace").splitlines()[-5:]
    ]
    return CommandFailed(
        "\n".join([message, *tails]), code="FLEET_ERROR", fix="`joelclaw doctor` names what is missing."
    )


def _follow(redis_url: str, expected: int) -> tuple[Tally, int]:
    """Read the transitions until every accepted job is finished: the tally, and how many wait still."""
    from joelclaw_tasks.cli.demo_tally import Tally
    from joelclaw_tasks.core.store import Store
    from joelclaw_tasks.settings import Settings

    # The home of the demo says nothing here: its Redis is given.
    store = Store.connect(Settings(redis_url=redis_url))
    tally, last = Tally(), "0-0"
    deadline = time.monotonic() + _DONE_WITHIN_S
    try:
        while time.monotonic() < deadline:
            entries: Any = store.client.xrange(store.keys.transitions, min=f"({last}", count=1_000)
            if entries:
                last = entries[-1][0].decode()
                tally.read(
                    {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
                    for _, fields in entries
                )
            # A follow-up is admitted before the job that emits it ends, so nothing open means done.
            elif not tally.open and sum(len(one.started) for one in tally.families.values()) >= expected:
                break
            time.sleep(0.02)
        return tally, int(store.snapshot()["total"])
    finally:
        store.client.close()


def _show(tally: Tally, replies: Sequence[Reply]) -> None:
    from joelclaw_tasks.cli.demo_tally import percentile

    numbers = ("started", "completed", "failed", "wait p50 ms", "wait p95 ms", "run p50 ms")
    drawn = table("family", *numbers, numeric=numbers)
    for name, family in sorted(tally.families.items()):
        row = (
            len(family.started),
            family.completed,
            family.failed,
            percentile(family.waits_ms, 50),
            percentile(family.waits_ms, 95),
            percentile(family.runs_ms, 50),
        )
        drawn.add_row(text(name), *("-" if cell is None else str(cell) for cell in row))
    console = console_of("stdout")
    console.print(drawn)
    answered = [reply.after_ms for reply in replies]
    shown = f"{percentile(answered, 50):.0f} ms, p95 {percentile(answered, 95):.0f} ms"
    console.print(text(f"{len(replies)} requests, answered by the ingress in p50 {shown}"))


def _say(line: str) -> None:
    console_of("stdout").print(text(without_passwords(line)), soft_wrap=True)


@contextlib.contextmanager
def _end_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: with its fleet stopped and its files removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
