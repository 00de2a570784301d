"""Telling the operator on the console: one plain line a notification."""

from __future__ import annotations

import sys
import unicodedata
from typing import Literal

from joelclaw_tasks.notify.notification import Notice


def notify(
    text: str,
    *,
    cause: str,  # noqa: ARG001 - all sinks alike
    severity: str = "info",
    stream: Literal["stdout", "stderr"] = "stdout",
) -> None:
    """Print `text` on one line; anything but `info` is named first. `cause` is for sinks that group.

    Control characters are left out, so that a text from outside cannot drive the terminal.
    """
    prefix = "" if severity == "info" else f"{severity}: "
    line = " ".join(f"{prefix}{text}".split())
    shown = "".join(char for char in line if unicodedata.category(char) not in ("Cc", "Cs"))
    # A Celery worker puts a proxy in the place of stdout that has no encoding.
    out = getattr(sys, stream)
    encoding = getattr(out, "encoding", None) or "utf-8"
    out.write(shown.encode(encoding, "replace").decode(encoding) + "\n")
    out.flush()


class Console:
    """The sink that is always there. A command writes to stderr, as its stdout is its answer."""

    name = "console"
    merges = False
    most_per_hour = 0

    def __init__(self, stream: Literal["stdout", "stderr"] = "stdout") -> None:
        self._stream: Literal["stdout", "stderr"] = stream

    def send(self, notice: Notice) -> None:
        """Print it; a digest has a line for each cause."""
        notify(notice.text, cause=notice.cause, severity=notice.severity, stream=self._stream)
        for line in notice.lines:
            notify(f"- {line}", cause=notice.cause, stream=self._stream)
