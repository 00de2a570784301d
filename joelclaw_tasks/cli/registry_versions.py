"""joelclaw registry diff, apply, history and rollback: a changed registry acts without a restart by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress
from joelclaw_tasks.cli.queue_parts import Actor, actor_of, clock_time, open_store
from joelclaw_tasks.cli.steering import DryRun, Reason, Yes, may_ask
from joelclaw_tasks.cli.terminal import table, text

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.core.registry_versions import RegistryVersion, RegistryVersions
    from joelclaw_tasks.fleet.workers import Reloaded
    from joelclaw_tasks.registry import Registry
    from joelclaw_tasks.registry_folder import Change

_DIFF = NextAction("joelclaw registry diff", "what the files would change")
_APPLY = NextAction("joelclaw registry apply", "let the fleet go by the files as they are now")
_HISTORY = NextAction("joelclaw registry history", "what was applied, by whom, when and why")
_ROLLBACK = NextAction("joelclaw registry rollback", "go back to the version before")
_RELOAD = NextAction("joelclaw fleet reload", "let the workers take it over")

NoReload = Annotated[
    bool, typer.Option("--no-reload", help="Only record it; workers take it over when they start.")
]


def diff() -> Outcome:
    """What the files of the registry would change, compared with what was applied last."""
    _loaded()
    last = _versions().last()
    changes = _changes(last)
    result = {
        "applied": None if last is None else last.summary(),
        "changes": [change.to_wire() for change in changes],
    }
    return Outcome(result, (_APPLY,) if changes or last is None else (_HISTORY,), _diff_view(last, changes))


def apply(
    *,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_reload: NoReload = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Check the files, show what they change, keep them as a version, and let the workers take them over."""
    by = actor_of(actor)
    loaded = _loaded()
    _refuse_faults(loaded)
    versions = _versions()
    last = versions.last()
    changes = _changes(last)
    view = _diff_view(last, changes)
    if dry_run or (last is not None and last.content == loaded.version and not changes):
        return Outcome(_told(None, changes), (_APPLY if changes else _HISTORY,), view)
    if not yes and may_ask():
        _ask(view)
    number = 0 if last is None else last.number
    kept = versions.add(number, loaded.version, _files(), actor=by, reason=reason)
    return _taken_over(kept, changes, no_reload)


def history() -> Outcome:
    """The versions that were applied, the newest first; 50 are kept."""
    found = _versions().all()
    result = {"count": len(found), "versions": [version.summary() for version in found]}
    return Outcome(result, (_DIFF, _ROLLBACK) if len(found) > 1 else (_DIFF,), _history_view(found))


def rollback(
    number: Annotated[
        int | None, typer.Argument(help="A version of `history`; without it, the one before.")
    ] = None,
    *,
    discard: Annotated[
        bool, typer.Option("--discard", help="Throw away changes of the files that were never applied.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    no_reload: NoReload = False,
    reason: Reason = "",
    actor: Actor = None,
) -> Outcome:
    """Put the files of an earlier version back, and let the workers take them over."""
    from joelclaw_tasks.registry_folder import changes_between, write_folder

    by = actor_of(actor)
    versions = _versions()
    last = versions.last()
    if last is None:
        raise CommandFailed(
            "no registry was applied yet", code="REGISTRY_NOTHING_APPLIED", fix="`joelclaw registry apply`.",
            next_actions=(_APPLY,),
        )  # fmt: skip
    wanted = versions.get(last.number - 1 if number is None else number)
    unapplied = _changes_or_broken(last)
    if unapplied and not discard:
        raise CommandFailed(
            f"the files hold changes that were never applied ({unapplied})",
            code="REGISTRY_UNAPPLIED",
            fix="Apply them first, or throw them away with --discard.",
            next_actions=(_DIFF,),
        )
    restored = _registry_of(wanted.files)
    changes = changes_between(last.files, wanted.files)
    view = _diff_view(last, changes)
    if dry_run:
        return Outcome(_told(None, changes), (), view)
    if not yes and may_ask():
        _ask(view)
    why = reason or f"back to version {wanted.number}"
    kept = versions.add(last.number, restored.version, wanted.files, actor=by, reason=why)
    write_folder(_directory(), wanted.files)
    return _taken_over(kept, changes, no_reload)


def _taken_over(kept: RegistryVersion, changes: Sequence[Change], no_reload: bool) -> Outcome:
    from joelclaw_tasks.cli.fleet import open_workers, reload_all

    reloaded = []
    if not no_reload:
        workers = open_workers()
        progress().say("asking the workers")
        # A fleet that is not running takes it over when it starts.
        names = [worker.name for worker in workers.all() if worker.registry not in (None, kept.content)]
        reloaded = reload_all(workers, names)
    result = _told(kept, changes, reloaded)
    said = f"version {kept.number} is applied; {len(reloaded)} workers took it over"
    actions = (_RELOAD, _ROLLBACK) if no_reload else (_ROLLBACK, _HISTORY)
    return Outcome(result, actions, lambda console: console.print(text(said, "green")))


def _told(
    kept: RegistryVersion | None, changes: Sequence[Change], reloaded: Sequence[Reloaded] = ()
) -> dict[str, Any]:
    return {
        "applied": None if kept is None else kept.summary(),
        "changes": [change.to_wire() for change in changes],
        "reloaded": [each.to_wire() for each in reloaded],
    }


def _directory() -> Path:
    return Path(current().settings().registry_dir)


def _loaded() -> Registry:
    from joelclaw_tasks.registry import Registry

    return Registry.load(_directory())


def _refuse_faults(loaded: Registry) -> None:
    from joelclaw_tasks.errors import RegistryError

    progress().say("importing the handlers")
    faults = loaded.check_targets()
    if faults:
        raise RegistryError(faults)


def _registry_of(files: Mapping[str, str]) -> Registry:
    """The registry that these files would make. Raises RegistryError."""
    from joelclaw_tasks.registry import Registry
    from joelclaw_tasks.registry_folder import write_folder

    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "events").mkdir()
        write_folder(Path(name), files)
        restored = Registry.load(Path(name))
    _refuse_faults(restored)
    return restored


def _files() -> dict[str, str]:
    from joelclaw_tasks.registry_folder import read_folder

    return read_folder(_directory())


def _changes(last: RegistryVersion | None) -> list[Change]:
    from joelclaw_tasks.registry_folder import changes_between

    return [] if last is None else changes_between(last.files, _files())


def _changes_or_broken(last: RegistryVersion) -> str:
    """In a few words, "" when there are none."""
    try:
        changes = _changes(last)
    except (OSError, ValueError):
        return "and cannot be read"
    return f"{len(changes)} values" if changes else ""


def _versions() -> RegistryVersions:
    from joelclaw_tasks.core.registry_versions import RegistryVersions

    return RegistryVersions(open_store())


def _ask(view: Callable[[Console], None]) -> None:
    from joelclaw_tasks.cli.terminal import console_of

    view(console_of("stderr"))
    if not typer.confirm("Apply it?", err=True):
        raise usage("nothing was applied", code="ABORTED", fix="Answer y, or give --yes.")


def _diff_view(last: RegistryVersion | None, changes: Sequence[Change]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        if last is None:
            console.print(text("no registry was applied yet: all of it is new"))
            return
        if not changes:
            console.print(text(f"the files are those of version {last.number}"))
            return
        listed = table("file", "place", "before", "after")
        for change in changes:
            listed.add_row(
                text(change.file, "bold"),
                text(change.place or "the whole file"),
                text("-" if change.before is None else change.before, "red"),
                text("-" if change.after is None else change.after, "green"),
            )
        console.print(listed)

    return view


def _history_view(versions: Sequence[RegistryVersion]) -> Callable[[Console], None]:
    def view(console: Console) -> None:
        listed = table("version", "applied", "by", "reason", "content", numeric=("version",))
        for each in versions:
            listed.add_row(
                text(each.number, "bold"),
                text(clock_time(each.at)),
                text(each.actor),
                text(each.reason),
                text(each.content[:12], "dim"),
            )
        console.print(listed)

    return view
