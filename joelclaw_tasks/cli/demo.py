"""joelclaw demo: a whole fleet, real events through its real ingress, and what became of them."""

from __future__ import annotations

import contextlib
import functools
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

from joelclaw_tasks.cli.envelope import CommandFailed
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import console_of, table, text, write
from joelclaw_tasks.core.redaction import without_url_passwords

if TYPE_CHECKING:
    from joelclaw_tasks.cli.demo_events import Reply
    from joelclaw_tasks.cli.demo_tally import Tally

_READY_WITHIN_S = 60.0
_DONE_WITHIN_S = 60.0
_STOPPED_WITHIN_S = 60.0
_WARM_UP_WEBHOOKS = 4


def demo() -> None:
    """Start a fleet of its own, send it real events, show what became of them, stop it again.

    24 signed webhooks at once and one event of each other family, over HTTP. Everything is on
    free ports and in a temporary home that is gone afterwards. The last line is JSON.
    """
    from joelclaw_tasks.cli.demo_events import WEBHOOKS, feed_server, lay_out_files, send_all

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
            send = functools.partial(
                send_all, urls["ingress_url"], webhook_secret=webhook_secret, events_token=events_token
            )
            with contextlib.closing(_Follower(urls["redis_url"])) as follower:
                # The first task in each worker process loads its handler: that is no matter of the queue.
                warm_up = send(run="warm-up", webhooks=_WARM_UP_WEBHOOKS)
                follower.follow(warm_up)
                _say(f"{len(warm_up)} events to warm up, then {WEBHOOKS} webhooks at once and the others")
                replies = send()
                tally = follower.follow(replies)
                depth = follower.depth()
        refused = [reply for reply in warm_up + replies if not reply.accepted]
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


class _Follower:
    """Reads the transitions of the demo's Redis, each once."""

    def __init__(self, redis_url: str) -> None:
        from joelclaw_tasks.core.store import Store
        from joelclaw_tasks.settings import Settings

        # The home of the demo says nothing here: its Redis is given.
        self._store = Store.connect(Settings(redis_url=redis_url))
        self._last = "0-0"

    def follow(self, replies: Sequence[Reply]) -> Tally:
        """Read on until every job of what was accepted is finished: what became of them."""
        from joelclaw_tasks.cli.demo_tally import Tally

        accepted = sum(reply.accepted for reply in replies)
        tally = Tally()
        deadline = time.monotonic() + _DONE_WITHIN_S
        while time.monotonic() < deadline:
            if entries := self._read():
                tally.read(entries)
            # A follow-up is admitted before the job that emits it ends, so nothing open means done.
            elif not tally.open and tally.totals()["started"] >= accepted:
                break
            else:
                time.sleep(0.02)
        return tally

    def depth(self) -> int:
        """How many jobs are not finished."""
        return int(self._store.snapshot()["total"])

    def close(self) -> None:
        """Close the connection."""
        self._store.client.close()

    def _read(self) -> list[dict[str, str]]:
        entries: Any = self._store.client.xrange(
            self._store.keys.transitions, min=f"({self._last}", count=1_000
        )
        if entries:
            self._last = entries[-1][0].decode()
        return [
            {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
            for _, fields in entries
        ]


def _show(tally: Tally, replies: Sequence[Reply]) -> None:
    from joelclaw_tasks.cli.demo_tally import percentile

    numbers = ("jobs", "done", "failed", "wait", "p95", "run")
    drawn = table("family", *numbers, numeric=numbers, title="wait and run: median ms; p95: of the wait")
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
    console_of("stdout").print(text(without_url_passwords(line)), soft_wrap=True)


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
