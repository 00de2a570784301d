"""Confirm: asks the person at the terminal before something is done to many jobs."""

from __future__ import annotations

import sys

import typer

from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.progress import progress


def can_ask() -> bool:
    """Whether a person is there to answer: a program that pipes, or asks for JSON, is not."""
    return not current().as_json and sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str) -> None:
    """Ask; anything but yes ends the command with exit code 1 and nothing done."""
    progress().be_silent()
    if not typer.confirm(question, err=True):
        sys.stderr.write("nothing was done\n")
        raise typer.Exit(1)
