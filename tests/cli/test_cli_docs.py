"""docs/cli.md names every command, and only commands and codes that exist."""

from __future__ import annotations

import re

from tests.cli.conftest import ROOT, JoelclawProcess

PAGE = (ROOT / "docs" / "cli.md").read_text()


def test_the_page_lists_exactly_the_commands_that_exist(joelclaw_offline: JoelclawProcess) -> None:
    listed = set(re.findall(r"^\| `(joelclaw[^`]*)` \|", PAGE, re.MULTILINE))

    existing = {each["usage"] for each in joelclaw_offline().result["commands"]}

    assert existing | {"joelclaw"} == listed


def test_every_option_on_the_page_is_in_the_help(joelclaw_offline: JoelclawProcess) -> None:
    helps = "".join(
        joelclaw_offline.raw(*command, "--help").stdout.decode()
        for command in (
            [],
            ["emit"],
            ["queue", "pause"],
            ["queue", "resume"],
            ["queue", "rate"],
            ["queue", "cancel"],
            ["queue", "drain"],
            ["queue", "priority"],
            ["queue", "stats"],
            ["queue", "simulate"],
            ["queue", "reconcile"],
            ["queue", "watch"],
            ["dag", "run"],
            ["dead", "list"],
            ["dead", "revive"],
            ["models", "cost"],
            ["eval"],
            ["dev", "models"],
        )
    )

    assert {option for option in re.findall(r"`(--[a-z-]+)", PAGE) if option not in helps} == set()


def test_every_error_code_on_the_page_is_one_that_the_program_can_answer() -> None:
    source = "".join(path.read_text() for path in (ROOT / "joelclaw_tasks").rglob("*.py"))

    for code in re.findall(r"^\| `([A-Z_]{5,})` \|", PAGE, re.MULTILINE):
        assert f'"{code}"' in source
