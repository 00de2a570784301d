"""joelclaw rules: by which rules Markdown is validated, and what they say of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joelclaw_tasks.cli.command import carry_out, command
from joelclaw_tasks.cli.envelope import CommandFailed, NextAction, Outcome
from joelclaw_tasks.cli.invocation import current
from joelclaw_tasks.cli.terminal import table, text
from joelclaw_tasks.cli.tree import command_tree

if TYPE_CHECKING:
    from rich.console import Console

    from joelclaw_tasks.handlers.validation import Validation

rules = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)

_LIST = NextAction("joelclaw rules list", "all rules, and whether they are good")
_TEST = NextAction(
    "joelclaw rules test <file>",
    "what they say of a file",
    {"file": {"description": "a Markdown file", "required": True}},
)
_STYLES = {"good": "", "kept": "yellow", "broken": "red"}


@rules.callback()
def group(context: typer.Context) -> None:
    """By which rules Markdown is validated, and what they say of a file."""
    if context.invoked_subcommand is None:
        current().command = context.command_path
        raise typer.Exit(carry_out(lambda: command_tree(context)))


@rules.command("list")
@command
def list_rules() -> Outcome:
    """The built-in rules, and those of the rules folder: good, kept (an older version runs) or broken."""
    from joelclaw_tasks.handlers.built_in_rules import RULES

    validation, data_dir = _validation()
    checked = validation.rules(data_dir).modules()
    result: dict[str, Any] = {
        "folder": str((validation.rules_dir or data_dir / "rules").absolute()),
        "limit_ms": validation.limit_ms,
        "built_in": [
            {"rule": rule.__name__.removeprefix("check_"), "checks": rule.__doc__ or ""} for rule in RULES
        ],
        "modules": [dict(module) for module in checked.modules],
    }

    def view(console: Console) -> None:
        listed = table("rule", "from", "state")
        for rule in result["built_in"]:
            listed.add_row(text(rule["rule"], "bold"), text("built in"), text("good"))
        for module in result["modules"]:
            for rule in module["rules"] or [module["name"]]:
                state = text(module["status"], _STYLES[module["status"]])
                listed.add_row(text(rule, "bold"), text(f"{module['name']}.py"), state)
        console.print(listed)
        console.print(text(f"the folder is {result['folder']}", "dim"))
        _show_troubles(console, checked.troubles)

    return Outcome(result, (_TEST,), view)


@rules.command("test")
@command
def test_file(file: Annotated[Path, typer.Argument(help="A Markdown file, wherever it is.")]) -> Outcome:
    """What all rules say of a file, as they are now; nothing is stored and nobody is told."""
    from joelclaw_tasks.errors import PermanentFailure
    from joelclaw_tasks.handlers.content import check_body
    from joelclaw_tasks.handlers.vault import MARKDOWN, MAX_BYTES, content_root, read_capped

    validation, data_dir = _validation()
    path = file.expanduser().resolve()
    if path.suffix.lower() not in MARKDOWN:
        raise _unusable(file, f"it is not Markdown ({', '.join(sorted(MARKDOWN))})")
    try:
        body = read_capped(path)
    except (OSError, PermanentFailure) as error:
        raise _unusable(file, str(getattr(error, "strerror", None) or error).lower()) from None
    if body is None:
        raise _unusable(file, f"it is larger than {MAX_BYTES:,} bytes")
    roots = (content_root(data_dir), *validation.dirs)
    root = next((each for each in roots if path.is_relative_to(each)), path.parent)
    relative = PurePosixPath(path.relative_to(root).as_posix())
    found, checked = check_body(body, root, relative, validation, data_dir)
    result = {
        "path": str(path),
        "ok": not any(finding.severity == "error" for finding in found),
        "findings": [finding.to_wire() for finding in found],
        "rules": checked.troubles,
    }

    def view(console: Console) -> None:
        listed = table("line", "severity", "rule", "finding", numeric=("line",))
        for finding in found:
            style = "red" if finding.severity == "error" else "yellow"
            cells = (str(finding.line), finding.severity, finding.rule, finding.message)
            listed.add_row(*(text(cell, style if cell == finding.severity else "") for cell in cells))
        console.print(listed if found else text("no findings", "green"))
        _show_troubles(console, checked.troubles)

    return Outcome(result, (_LIST,), view)


def _show_troubles(console: Console, troubles: list[dict[str, Any]]) -> None:
    for module in troubles:
        console.print(text(_trouble(module), _STYLES[module["status"]]))


def _trouble(module: Mapping[str, Any]) -> str:
    which = "its last good version runs" if module["status"] == "kept" else "it is left out"
    return f"{module['name']}.py is broken, {which}: {module['error']}"


def _unusable(file: Path, why: str) -> CommandFailed:
    return CommandFailed(
        f"{file} cannot be tested: {why}",
        code="RULES_FILE_UNUSABLE",
        fix="Name a Markdown file that can be read.",
        next_actions=(_LIST,),
    )


def _validation() -> tuple[Validation, Path]:
    from joelclaw_tasks.handlers.validation import Validation

    settings = current().settings()
    validation = Validation(settings.watched, settings.rules_dir, settings.rules_limit_ms)
    return validation, settings.files_dir
