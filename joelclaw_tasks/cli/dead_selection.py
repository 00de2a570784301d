"""DeadSelection: which jobs of the dead letter a command is about."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import usage
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction
from joelclaw_tasks.cli.steering import typed

if TYPE_CHECKING:
    from joelclaw_tasks.core.store import Store
    from joelclaw_tasks.steering.where import Where as Filter

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead jobs.", show_default=False)]
Signature = Annotated[
    str | None, typer.Option("--signature", "-s", help="All that failed alike; its beginning is enough.")
]
Family = Annotated[str | None, typer.Option("--family", help="Of this event, or task.")]
Handler = Annotated[str | None, typer.Option("--handler", help="Of this handler.")]
Where = Annotated[
    str | None, typer.Option("--where", "-w", help="Choose by a filter, such as 'error~*timeout* age>1h'.")
]
All = Annotated[bool, typer.Option("--all", help="The whole dead letter.")]

LIST = NextAction("joelclaw dead list", "what is in the dead letter, by failure")


@dataclass(slots=True)
class DeadSelection:
    """Ids, or conditions that must all hold. `signature` may be the beginning of one."""

    ids: list[str] | None = None
    signature: str | None = None
    family: str | None = None
    handler: str | None = None
    where: str | None = None
    all: bool = False

    @property
    def is_filter(self) -> bool:
        """Whether it has conditions."""
        return any(each is not None for each in (self.signature, self.family, self.handler, self.where))

    def require_one_way(self) -> None:
        """Exactly one way to say which jobs. Raises CommandFailed with exit code 2."""
        if (bool(self.ids) + self.is_filter + self.all) != 1:
            raise usage(
                "say which jobs: by their ids, by conditions, or all of them",
                fix="Give ids, or --signature, --family, --handler or --where; or --all.",
            )

    def jobs(self, store: Store) -> Iterator[dict[str, Any]]:
        """One line of each job that fits, the oldest first (ids: as they were given).

        Raises CommandFailed when no group, or more than one, has the signature.
        """
        fits = None if self.where is None else _filter(self.where)
        signature = resolve_signature(self.signature, store) if self.signature is not None else None
        ids = list(dict.fromkeys(self.ids)) if self.ids else store.dead.ids(signature)
        now_ms = store.now_ms()
        for job in store.dead.jobs(ids, payload=bool(fits and fits.needs_payload)):
            if self.family not in (None, job["family"]) or self.handler not in (None, job["handler"]):
                continue
            if fits is None or fits.matches({**job, "available_at": job["discarded_at"]}, now_ms):
                job.pop("payload", None)
                yield job

    def options(self) -> str:
        """The same selection as it is typed, with a blank before each part."""
        named = (
            ("--signature", self.signature), ("--family", self.family), ("--handler", self.handler),
            ("--where", self.where),
        )  # fmt: skip
        parts = [f" {option} {shlex.quote(value)}" for option, value in named if value is not None]
        return "".join([*(f" {shlex.quote(one)}" for one in self.ids or ()), *parts, " --all" * self.all])


def _filter(text: str) -> Filter:
    """A filter of dead jobs; their `age` is how long they are dead. Raises CommandFailed with exit code 2."""
    from joelclaw_tasks.steering.where import FIELDS, Where

    class DeadFilter(Where):
        fields = (*FIELDS, "error", "signature")

    with typed():
        return DeadFilter(text)


def resolve_signature(typed: str, store: Store) -> str:
    """The one signature that this is the beginning of. Raises CommandFailed."""
    known = store.dead.signatures()
    found = [typed] if typed in known else [each for each in known if each.startswith(typed)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CommandFailed(
            f"{len(found)} signatures begin with {typed!r}",
            code="DEAD_SIGNATURE_AMBIGUOUS",
            fix=f"Write more of it, such as `{found[0]}`.",
            details={"signatures": found[:20]},
            next_actions=(LIST,),
        )
    near = difflib.get_close_matches(typed[:120], known, n=1)
    hint = f"; the nearest is {near[0]}" if near else ""
    raise CommandFailed(
        f"nothing in the dead letter has the signature {typed[:120]!r}{hint}",
        code="DEAD_SIGNATURE_UNKNOWN",
        fix="`joelclaw dead list` prints the signatures.",
        details={"nearest": near[0]} if near else None,
        next_actions=(LIST,),
    )


def nothing_selected(store: Store, selection: DeadSelection) -> CommandFailed:
    """The refusal of a command that no dead job fits."""
    count = store.dead.count()
    what = "these ids" if selection.ids else "these conditions"
    return CommandFailed(
        f"no job of the dead letter fits {what}; it holds {count}",
        code="DEAD_NOTHING_SELECTED",
        fix="`joelclaw dead list --jobs` prints what is there.",
        next_actions=(LIST,),
    )
