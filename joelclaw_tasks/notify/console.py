"""Telling the operator on the console: one plain line a notification."""

from __future__ import annotations

import sys
import unicodedata

from joelclaw_tasks.notify.notification import Notice


def notify(text: str, *, cause: str, severity: str = "info") -> None:  # noqa: ARG001 - all sinks alike
    """Print `text` on one line; anything but `info` is named first. `cause` is for sinks that group.

    Control characters are left out, so that a text from outside cannot drive the terminal.
    """
    prefix = "" if severity == "info" else f"{severity}: "
    line = " ".join(f"{prefix}{text}".split())
    shown = "".join(char for char in line if unicodedata.category(char) not in ("Cc", "Cs"))
    # A Celery worker puts a proxy in the place of stdout that has no encoding.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(shown.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


class Console:
    """The sink that is always there."""

    name = "console"
    merges = False
    most_per_hour = 0

    def send(self, notice: Notice) -> None:
        """Print it; a digest has a line for each cause."""
        notify(notice.text, cause=notice.cause, severity=notice.severity)
        for line in notice.lines:
            notify(f"- {line}", cause=notice.cause)
