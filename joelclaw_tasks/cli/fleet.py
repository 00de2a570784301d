"""joelclaw fleet: the workers, and how they take over new code without a restart by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.duration import duration
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import open_store
from joelclaw_tasks.cli.terminal import table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.fleet.workers import Reloaded, WorkerCode, Workers

fleet = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw fleet list", "the workers, since when they run, and which registry they have")
_RELOAD = NextAction("joelclaw fleet reload", "let them take over the code that is there now")
_DOCTOR = NextAction("joelclaw doctor", "check everything from here")


@fleet.callback()
def group(context: typer.Context) -> None:
    """The workers: see them, and let them take over new code."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@fleet.command("list")
@command
def list_workers() -> Outcome:
    """The workers that answer: since when they have their code, and which registry."""
    import time

    from joelclaw_tasks.registry import Registry

    version = Registry.load(current().settings().registry_dir).version
    found = all_workers(open_workers())
    workers = [{**worker.to_wire(), "is_current": worker.registry in (None, version)} for worker in found]
    result = {"count": len(workers), "registry": version, "workers": workers}
    return Outcome(result, (_RELOAD, _DOCTOR), _list_view(result, round(time.time() * 1_000)))


@fleet.command("reload")
@command
def reload(
    worker: Annotated[
        list[str] | None, typer.Option("--worker", "-w", help="Only this one; more than one may be named.")
    ] = None,
) -> Outcome:
    """Let workers take over the code and registry that are there now, one at a time; no job is lost.

    Each first checks that the new code can be imported. A worker stops as for a deploy: what runs has some
    seconds to finish, then it starts again with the new code, and no attempt is burned.
    """
    workers = open_workers()
    found = [each.name for each in all_workers(workers)]
    unknown = [name for name in worker or () if name not in found]
    if unknown:
        raise CommandFailed(
            f"no worker is named {unknown[0]!r:.90}",
            code="FLEET_WORKER_UNKNOWN",
            fix=f"Those that answer: {', '.join(found)}.",
            next_actions=(_LIST,),
        )
    done = reload_all(workers, worker or found)
    said = f"{len(done)} of {len(found)} workers have taken over the new code"
    return Outcome({"reloaded": [each.to_wire() for each in done]}, (_LIST,), _reload_view(done, said))


def open_workers() -> Workers:
    """The workers of this invocation's fleet. Raises SettingsError, RegistryError, CoreUnreachable."""
    progress().say("reading the registry")
    from joelclaw_tasks.fleet.workers import Workers, control_app
    from joelclaw_tasks.registry import Registry

    settings = current().settings()
    return Workers(control_app(settings, Registry.load(settings.registry_dir)), open_store())


def all_workers(workers: Workers) -> Sequence[WorkerCode]:
    """Those that answer. Raises CommandFailed when there are none."""
    progress().say("asking the workers")
    found = workers.all()
    if not found:
        raise CommandFailed(
            "no worker answers",
            code="FLEET_NO_WORKER",
            fix="Start the fleet with `joelclaw up`, or look at the logs of the workers.",
            next_actions=(_DOCTOR,),
        )
    return found


def reload_all(workers: Workers, names: Sequence[str]) -> list[Reloaded]:
    """One after the other. Raises ReloadFailed."""
    return workers.reload(names, lambda name: progress().say(f"reloading {name}"))


def _list_view(result: dict[str, Any], now_ms: int) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        listed = table("worker", "pid", "code since", "registry", numeric=("pid",))
        for worker in result["workers"]:
            version = "none" if worker["registry"] is None else worker["registry"][:12]
            listed.add_row(
                text(worker["name"], "bold"),
                text(worker["pid"]),
                text(f"{duration(now_ms - worker['started_at'])} ago"),
                text(version) if worker["is_current"] else text(f"{version}, not the files'", "yellow"),
            )
        console.print(listed)

    return view


def _reload_view(done: Sequence[Reloaded], said: str) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        for each in done:
            console.print(text(f"{each.name}  {each.took_s:.1f} s"))
        console.print(text(said, "green"))

    return view
