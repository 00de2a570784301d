"""Telling the operator on the console: one plain line a notification."""

from __future__ import annotations

import sys
import unicodedata


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
