"""joelclaw: the command line. Every command answers with an envelope, or a page for people."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from joelclaw_tasks import __version__
from joelclaw_tasks.cli import invocation as invocations
from joelclaw_tasks.cli.approvals import approvals
from joelclaw_tasks.cli.beat import beat
from joelclaw_tasks.cli.command import carry_out, command, report, take_global_options, usage
from joelclaw_tasks.cli.dag import dag
from joelclaw_tasks.cli.dead import dead
from joelclaw_tasks.cli.dev import dev
from joelclaw_tasks.cli.diagnose import diagnose
from joelclaw_tasks.cli.diagnosis import diagnosis
from joelclaw_tasks.cli.digest import digest
from joelclaw_tasks.cli.emit import emit
from joelclaw_tasks.cli.envelope import Outcome
from joelclaw_tasks.cli.evaluate import evaluate
from joelclaw_tasks.cli.fleet import fleet
from joelclaw_tasks.cli.health import health
from joelclaw_tasks.cli.invocation import Invocation
from joelclaw_tasks.cli.models import models
from joelclaw_tasks.cli.notify import notify
from joelclaw_tasks.cli.observer import observer
from joelclaw_tasks.cli.queue import queue
from joelclaw_tasks.cli.registry import registry
from joelclaw_tasks.cli.restate import restate
from joelclaw_tasks.cli.rules import rules
from joelclaw_tasks.cli.terminal import text
from joelclaw_tasks.cli.tree import command_tree
from joelclaw_tasks.cli.watch import watch

#: Commands whose modules load Celery and the like: imported when they are called, not before.
#: Name -> (module of cli, what it does). The function has the name of the command.
_LATE = {
    "up": "Start the whole fleet on this machine; Ctrl-C stops it.",
    "demo": "Start a fleet, send real events through it and show what became of them.",
    "doctor": "Check environment, Redis, registry and settings.",
}
_ORDER = (
    "up", "demo", "doctor", "emit", "queue", "fleet", "beat", "health", "observer", "diagnose", "diagnosis",
    "digest", "notify", "dead", "dag", "approvals", "restate", "registry", "watch", "rules", "models", "eval",
    "dev",
)  # fmt: skip


class _Commands(TyperGroup):
    """The root group: lists late commands without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the base class says so
        return [name for name in _ORDER if name in self.commands or _has_landed(name)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in self.commands or not _has_landed(cmd_name):
            return super().get_command(ctx, cmd_name)
        return _single(cmd_name, lambda: None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and _has_landed(name):
            module = importlib.import_module(f"joelclaw_tasks.cli.{name}")
            self.commands[name] = _single(name, command(getattr(module, name)))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="joelclaw",
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)
app.command("emit")(command(emit))
app.command("diagnose")(command(diagnose))
app.command("eval")(evaluate)
app.command("watch")(command(watch))
app.add_typer(queue, name="queue")
app.add_typer(observer, name="observer")
app.add_typer(diagnosis, name="diagnosis")
app.add_typer(digest, name="digest")
app.add_typer(notify, name="notify")
app.add_typer(health, name="health")
app.add_typer(fleet, name="fleet")
app.add_typer(beat, name="beat")
app.add_typer(dead, name="dead")
app.add_typer(dag, name="dag")
app.add_typer(approvals, name="approvals")
app.add_typer(restate, name="restate")
app.add_typer(registry, name="registry")
app.add_typer(rules, name="rules")
app.add_typer(models, name="models")
app.add_typer(dev, name="dev")


@app.callback()
def root(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option("--home", help="Home of the fleet.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Answer with the JSON envelope.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks on stderr.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Admission control for Celery on Redis: emit events, watch and steer the queue, run the fleet."""
    take_global_options(home=home, as_json=as_json, debug=debug)
    if version:
        raise typer.Exit(carry_out(_version))
    if context.invoked_subcommand is None:
        raise typer.Exit(carry_out(lambda: command_tree(context)))


def main() -> None:
    """The console script. Exits the process with an ExitCode."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Carry out one command line; answers the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    as_json = "--json" in arguments or not on_terminal
    invocations.begin(Invocation(as_json=as_json, debug="--debug" in arguments))
    foreign = [each for each in arguments if not _is_text(each)]
    try:
        if foreign:
            raise usage(f"not UTF-8: {foreign[0]!a}", fix="Set a UTF-8 locale, or pass the value in a file.")
        return int(get_command(app)(arguments, prog_name="joelclaw", standalone_mode=False) or 0)
    except typer.TyperException as error:
        return report(_usage_error(error))
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - everything becomes an envelope
        return report(error)


def _is_text(argument: str) -> bool:
    # Bytes of the command line that are not UTF-8 arrive as lone surrogates, which Redis cannot take.
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def _usage_error(error: Any) -> Exception:
    context = getattr(error, "ctx", None)
    if context is None:
        return usage(error.format_message(), fix="`joelclaw --help` shows the commands and options.")
    invocations.current().command = context.command_path
    right = context.get_usage().removeprefix("Usage: ")
    return usage(error.format_message(), fix=f"Usage: {right} (`{context.command_path} --help` explains it)")


def _version() -> Outcome:
    python = sys.version.split()[0]
    return Outcome(
        {"version": __version__, "python": python},
        view=lambda console: console.print(text(f"joelclaw {__version__} (Python {python})")),
    )


def _has_landed(name: str) -> bool:
    return name in _LATE and importlib.util.find_spec(f"joelclaw_tasks.cli.{name}") is not None


def _single(name: str, function: Any) -> Any:
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name, help=None if function.__doc__ else _LATE[name])(function)
    return get_command(alone)


if __name__ == "__main__":
    main()
