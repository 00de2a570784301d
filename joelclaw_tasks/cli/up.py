"""joelclaw up: the whole fleet on this machine, in the foreground."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.envelope import ExitCode, Failure, NextAction, Outcome, failed, succeeded, to_json
from joelclaw_tasks.cli.invocation import Invocation, current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.terminal import printable, write
from joelclaw_tasks.errors import JoelclawError

if TYPE_CHECKING:
    from joelclaw_tasks.fleet.launch import FleetUrls

_COLOURS = (36, 32, 33, 35, 34, 96)
_NEXT = (
    NextAction("joelclaw doctor", "check that everything is well"),
    NextAction("joelclaw queue depth", "how much is waiting, and for how long"),
)


def up(
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="Port of the ingress (0: a free one).")
    ] = None,
    no_flower: Annotated[bool, typer.Option("--no-flower", help="Leave Flower out.")] = False,
    with_restate: Annotated[
        bool, typer.Option("--with-restate", help="Run a Restate server too; `make restate` installs it.")
    ] = False,
) -> None:
    """Start the whole fleet on this machine; Ctrl-C stops it in order, with nothing lost.

    Redis (embedded, unless REDIS_URL names one), the workers, beat, the ingress and Flower.
    With --json: one line with all URLs once it is ready, Redis' password included; the logs
    are then in the files under logs/ of the home only.
    """
    from joelclaw_tasks.fleet.launch import launch

    invocation = current()
    progress().be_silent()
    view = _Nothing() if invocation.as_json else _Terminal()

    def announce(urls: FleetUrls) -> None:
        if invocation.as_json:
            actions = [replace(action, command=invocation.follow_up(action.command)) for action in _NEXT]
            _write_line(succeeded(invocation.command, Outcome(urls.to_wire(), actions)))
        else:
            view.ready = True
            _show_urls(invocation, urls)

    try:
        clean = launch(
            invocation.home,
            ingress_port=port,
            with_flower=not no_flower,
            with_restate=with_restate,
            view=view,
            on_ready=announce,
        )
    except JoelclawError as error:
        if not invocation.as_json:
            raise
        failure = Failure.of(error)
        _write_line(failed(invocation.command, failure))
        raise typer.Exit(failure.exit_code) from None
    if not clean:
        raise typer.Exit(ExitCode.FAILED)


def _write_line(envelope: dict[str, Any]) -> None:
    """The envelope on one line: whoever started us reads lines."""
    write(to_json(envelope, one_line=True))


class _Nothing:
    """Nobody watches; the log files have it all. Warnings go to stderr."""

    ready = False

    def line(self, name: str, text: str) -> None:
        pass

    def event(self, name: str, what: str) -> None:
        if what.startswith("WARNING"):
            _say(f"{name}: {what}", sys.stderr.fileno())


class _Terminal:
    """Changes and log lines on stdout, each with the name of its process; coloured on a terminal.

    While the fleet starts, the lines go to the log files only: banners would bury what matters.
    """

    def __init__(self) -> None:
        self.ready = False
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._seen: dict[str, int] = {}

    def line(self, name: str, text: str) -> None:
        if self.ready and text.strip():
            _say(f"{self._label(name)} {printable(text)}")

    def event(self, name: str, what: str) -> None:
        _say(f"{self._label(name)} {'▸' if self._coloured else '--'} {what}")

    def _label(self, name: str) -> str:
        label = f"[{name}]"
        if not self._coloured:
            return label
        colour = _COLOURS[self._seen.setdefault(name, len(self._seen)) % len(_COLOURS)]
        return f"\x1b[{colour}m{label}\x1b[0m"


def _show_urls(invocation: Invocation, urls: FleetUrls) -> None:
    lines = [
        "",
        f"  ready (Ctrl-C stops it)   home {urls.home}",
        f"  ingress   {urls.ingress_url}",
        f"  flower    {urls.flower_url or 'off'}",
        *_restate_lines(urls),
        *(f"  next      {invocation.follow_up(action.command)}   {action.description}" for action in _NEXT),
        "",
    ]
    _say("\n".join(lines))


def _restate_lines(urls: FleetUrls) -> list[str]:
    if urls.restate_ingress_url is None:
        return []
    return [f"  restate   {urls.restate_ingress_url}   admin {urls.restate_admin_url}"]


def _say(text: str, descriptor: int | None = None) -> None:
    # Straight to the descriptor: a reader that has gone away must not stop the fleet.
    document = f"{text}\n".encode(errors="replace")
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno() if descriptor is None else descriptor, document)
