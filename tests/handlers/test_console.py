"""The console sink prints one plain line."""

from __future__ import annotations

import pytest

from joelclaw_tasks.notify.console import notify


@pytest.mark.parametrize(
    ("text", "severity", "line"),
    [
        ("CI works again.", "info", "CI works again."),
        ("CI fails.", "warning", "warning: CI fails."),
        ("two\nlines\x1b[31m\x07", "info", "two lines[31m"),
        ("caf\u00e9 \ud800", "info", "café "),
    ],
)
def test_a_notification_is_one_line(
    capsys: pytest.CaptureFixture[str], text: str, severity: str, line: str
) -> None:
    notify(text, cause="test", severity=severity)

    assert f"{line}\n" == capsys.readouterr().out
