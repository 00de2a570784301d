"""joelclaw notify: what people were told, what waits, and how to stop or try it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, clock_time, open_store
from joelclaw_tasks.cli.steering import Reason, typed
from joelclaw_tasks.cli.terminal import table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.core.notices import Notices
    from joelclaw_tasks.notify.notifier import Notifier

notify = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw notify list", "what was told, what waits, what is muted")
_TEST = NextAction("joelclaw notify test", "send a test to every sink")
_DIGEST = NextAction("joelclaw notify digest", "send what is held back now")

Cause = Annotated[str, typer.Argument(help="The cause, as `joelclaw notify list` prints it.")]


@notify.callback()
def group(context: typer.Context) -> None:
    """What people are told: see it, try it, stop it for a while."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@notify.command("list")
@command
def list_notices(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="Most entries listed.")] = 20,
) -> Outcome:
    """What was told lately, what is held back, what is muted, and how the sinks are."""
    from joelclaw_tasks.notify.sinks import names_of

    names = names_of(current().settings())
    notices = _notices()
    result = {
        "sinks": [notices.sink(name) for name in names],
        "muted": [{"cause": cause, **mute} for cause, mute in notices.mutes().items()],
        "held": notices.held(),
        "log": notices.log(limit),
    }
    return Outcome(result, (_TEST, *((_DIGEST,) if result["held"] else ())), _list_view(result))


@notify.command("test")
@command
def test() -> Outcome:
    """Send a test to every sink, whatever is muted or quiet. Exit code 1 when one does not take it."""
    notifier = _notifier()
    progress().say("telling everybody")
    tried = notifier.try_all()
    result = {"sinks": tried}
    failed = [each for each in tried if not each.is_ok]

    def view(console: Console) -> None:
        for each in tried:
            mark = text("  ok ", "green") if each.is_ok else text("FAIL ", "bold red")
            console.print(text("").append_text(mark).append_text(text(f"{each.sink}  {each.detail}")))

    if not failed:
        return Outcome(result, (_LIST,), view)
    raise CommandFailed(
        f"{len(failed)} of {len(tried)} sinks did not take it: {', '.join(each.sink for each in failed)}",
        code="NOTIFY_TEST_FAILED",
        fix=f"{failed[0].detail}; docs/notify.md says what each sink needs.",
        details=result,
        next_actions=(NextAction("joelclaw doctor", "check the settings"), _LIST),
        view=view,
    )


@notify.command("mute")
@command
def mute(
    cause: Cause,
    *,
    ttl: Annotated[str, typer.Option("--ttl", help="For how long, 60s to 30d.")] = "4h",
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Tell nothing of a cause for a while, however bad it gets."""
    from joelclaw_tasks.notify.notification import Notification
    from joelclaw_tasks.steering.ttl import parse_ttl_ms

    by = actor_of(actor)
    with typed():
        ttl_ms = parse_ttl_ms(ttl)
    notices = _notices()
    name = Notification.clean("", cause=cause).cause
    until_at = notices.now_ms() + ttl_ms
    notices.mute(name, until_at, actor=by, reason=reason)
    result = {"cause": name, "until_at": until_at, "actor": by, "reason": reason}
    said = f"{name} is muted until {clock_time(until_at)}"
    return Outcome(result, (_unmute(name), _LIST), lambda console: console.print(text(said)))


@notify.command("unmute")
@command
def unmute(cause: Cause) -> Outcome:
    """Tell of a cause again."""
    from joelclaw_tasks.notify.notification import Notification

    name = Notification.clean("", cause=cause).cause
    was_muted = _notices().unmute(name)
    said = f"{name} is told again" if was_muted else f"{name} was not muted"
    result = {"cause": name, "was_muted": was_muted}
    return Outcome(result, (_LIST,), lambda console: console.print(text(said)))


@notify.command("digest")
@command
def digest() -> Outcome:
    """Send what is held back and what sinks have not taken yet, now, even in quiet hours."""
    notifier = _notifier()
    progress().say("telling everybody")
    result = notifier.run_due(is_forced=True)
    waiting = sum(result["waiting"].values())
    said = f"{result['digest']} causes in the digest" + (f", {waiting} wait for a sink" if waiting else "")
    return Outcome(result, (_LIST,), lambda console: console.print(text(said)))


def _notices() -> Notices:
    from joelclaw_tasks.core.notices import Notices

    return Notices(open_store())


def _notifier() -> Notifier:
    from joelclaw_tasks.notify.console import Console as ConsoleSink
    from joelclaw_tasks.notify.notifier import Notifier

    return Notifier.of(current().settings(), open_store(), console=ConsoleSink("stderr"))


def _unmute(cause: str) -> NextAction:
    import shlex

    return NextAction(f"joelclaw notify unmute {shlex.quote(cause)}", "tell of it again")


def _list_view(result: Mapping[str, Any]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        sinks = table("sink", "waiting", "last hour", "state", numeric=("waiting", "last hour"))
        for sink in result["sinks"]:
            away = sink["away_until_at"]
            state = f"away until {clock_time(away)}: {sink['error']}" if away else sink["error"] or "well"
            sinks.add_row(
                text(sink["sink"], "bold"), text(sink["waiting"]), text(sink["sent_last_hour"]), text(state)
            )
        console.print(sinks)
        for each in result["muted"]:
            said = f"muted: {each['cause']} until {clock_time(each['until_at'])} by {each['actor']}"
            console.print(text(said, "yellow"))
        for each in result["held"]:
            said = f"held back: {each['cause']} ({each['count']}), goes at {clock_time(each['goes_at'])}"
            console.print(text(said, "dim"))
        if not result["log"]:
            console.print(text("nobody was told anything yet"))
            return
        log = table("when", "", "cause", "text")
        for entry in result["log"]:
            note = entry["note"]
            line = " ".join(str(note.get("text", "")).split())
            log.add_row(text(clock_time(entry["at"])), text(entry["word"]), text(entry["cause"]), text(line))
        console.print(log)

    return view
