"""Parse a command line as its program would, load what it names, start nothing.

Usage: python parse_command.py <program> <argument>...; exits with an error when the program would refuse.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any


def parse_celery(arguments: list[str]) -> None:
    from celery.bin.celery import celery

    context = celery.make_context("celery", arguments)
    context.invoked_subcommand = "*"  # without one it would print its help and leave
    context.invoke(celery.callback, **context.params)  # finds the app
    assert context.obj.app.main, "the app has no name"
    rest = _parse_subcommands(celery, context)
    if "flower" in arguments:
        _parse_flower(rest)


def _parse_flower(arguments: list[str]) -> None:
    import flower.options  # defines the options
    from tornado.options import options

    assert flower.options
    options.parse_command_line(["flower", *arguments], final=False)


def parse_joelclaw(arguments: list[str]) -> None:
    from typer.main import get_command

    from joelclaw_tasks.cli.app import app

    root = get_command(app)
    _parse_subcommands(root, root.make_context("joelclaw", arguments))


def parse_python(arguments: list[str]) -> None:
    if arguments[0] == "-c":
        (code,) = arguments[1:]
        compile(code, "<command>", "exec")
        return
    assert ["-m", "joelclaw_tasks.ingress"] == arguments[:2]
    from joelclaw_tasks.ingress import __main__ as ingress

    class Parsed(Exception):
        """The ingress has understood its arguments and turns to its settings."""

    class Settings:
        @staticmethod
        def load(**_overrides: Any) -> Any:
            raise Parsed

    ingress.Settings = Settings
    with contextlib.suppress(Parsed):
        ingress.main(arguments[2:])


def _parse_subcommands(command: Any, context: Any) -> list[str]:
    """Parse down to the last subcommand; answers the arguments that it takes as they are."""
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return list(context.params.get("tornado_argv", context.args))


if __name__ == "__main__":
    program, *rest = sys.argv[1:]
    globals()[f"parse_{program}"](rest)
