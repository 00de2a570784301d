"""Invocation: how this one run of `joelclaw` was asked for."""

from __future__ import annotations

import contextvars
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joelclaw_tasks.settings import Settings


@dataclass(slots=True)
class Invocation:
    """The global options and the command path of this run.

    `as_json`: answer with the envelope (asked for, or stdout is not a terminal). `home` is
    None unless --home was given.
    """

    as_json: bool = True
    debug: bool = False
    home: Path | None = None
    command: str = "joelclaw"

    def settings(self) -> Settings:
        """The settings of the fleet that this run speaks to. Raises SettingsError."""
        from joelclaw_tasks.settings import Settings

        return Settings.load(home=self.home)

    def follow_up(self, command: str) -> str:
        """A command for the same fleet: --home is carried over when it was given."""
        return command if self.home is None else f"{command} --home {shlex.quote(str(self.home))}"


_CURRENT: contextvars.ContextVar[Invocation | None] = contextvars.ContextVar("invocation", default=None)


def current() -> Invocation:
    """The invocation that is being carried out."""
    invocation = _CURRENT.get()
    return invocation if invocation is not None else begin(Invocation())


def begin(invocation: Invocation) -> Invocation:
    """Make this the current invocation."""
    _CURRENT.set(invocation)
    return invocation
