"""command: what turns a function that returns an Outcome into a command of the CLI."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from joelclaw_tasks.cli import invocation as invocations
from joelclaw_tasks.cli.envelope import CommandFailed, ExitCode, Failure, Outcome
from joelclaw_tasks.cli.progress import Progress
from joelclaw_tasks.cli.terminal import show_failure, show_outcome
from joelclaw_tasks.core.redaction import without_url_passwords

_GLOBAL_OPTIONS: dict[str, Any] = {
    "home": Annotated[
        Path | None, typer.Option("--home", help="Home of the fleet (default: JOELCLAW_HOME, .joelclaw).")
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="Answer with the JSON envelope.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure on stderr.")],
}
_DEFAULTS: dict[str, Any] = {"home": None, "as_json": False, "debug": False}


def command(function: Callable[..., Outcome | None]) -> Callable[..., None]:
    """Wrap a command: global options at its end, one envelope for whatever happens, an exit code.

    The function returns an Outcome, or None when it wrote its answer itself. What it raises
    becomes an error envelope; typer's own usage errors and exits pass through.
    """
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def run(*args: Any, typer_context: typer.Context, **kwargs: Any) -> None:
        invocations.current().command = typer_context.command_path
        take_global_options(**{name: kwargs.pop(name) for name in _GLOBAL_OPTIONS if name in kwargs})
        exit_code = carry_out(functools.partial(function, *args, **kwargs))
        if exit_code is not ExitCode.OK:
            raise typer.Exit(exit_code)

    parameters = list(signature.parameters.values())
    parameters.append(
        inspect.Parameter("typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    )
    for name, annotation in _GLOBAL_OPTIONS.items():
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[name], annotation=annotation
            )
        )
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def take_global_options(*, home: Path | None = None, as_json: bool = False, debug: bool = False) -> None:
    """Note what was given; an option that was not given leaves an earlier one as it is."""
    invocation = invocations.current()
    invocation.home = home if home is not None else invocation.home
    invocation.as_json = invocation.as_json or as_json
    invocation.debug = invocation.debug or debug


def carry_out(function: Callable[[], Outcome | None]) -> ExitCode:
    """Run it and show what came of it. Usage errors and exits of typer pass through."""
    invocation = invocations.current()
    try:
        with Progress(shown=not invocation.as_json):
            outcome = function()
    except (typer.Exit, typer.TyperException):
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - everything becomes an envelope
        return report(error)
    if outcome is not None:
        show_outcome(invocation, outcome)
    return ExitCode.OK


def report(error: BaseException) -> ExitCode:
    """Show an exception as an error envelope; answers the exit code."""
    invocation = invocations.current()
    if invocation.debug:
        sys.stderr.write(without_url_passwords("".join(traceback.format_exception(error))))
    failure = Failure.of(error)
    show_failure(invocation, failure)
    return failure.exit_code


def usage(message: str, *, code: str = "USAGE", fix: str) -> CommandFailed:
    """A refusal of what was typed: exit code 2."""
    return CommandFailed(message, code=code, fix=fix, exit_code=ExitCode.USAGE)
