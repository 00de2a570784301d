"""Deploys: what was changed in the checkout, from its git log."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from joelclaw_tasks.intelligence.diagnosis.evidence import Exhibit, Kind, at_of
from joelclaw_tasks.intelligence.guard import plain_text

_TIMEOUT_S = 5
_MOST_PATHS = 8
_OUTPUT_MOST = 200_000
#: A record begins with one control character, its fields are parted by another: no commit has them.
_FORMAT = "--format=%x1e%h%x1f%cI%x1f%s%x1f"


def commits_of(checkout: Path | None, since_at: int, until_at: int, most: int = 10) -> list[Exhibit]:
    """The newest commits of a span of time, the newest first; none without git or a checkout.

    Names and addresses of authors are left out. The moment is that of the commit, not of its deploy.
    """
    if checkout is None or not checkout.is_dir():
        return []
    span = [f"--since={since_at // 1000}", f"--until={until_at // 1000}"]
    command = [
        "git", "--no-pager", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false",
        "-C", str(checkout), "log", f"--max-count={most}", "--no-color", "--no-ext-diff", "--name-only",
        _FORMAT, *span, "--",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return []
    if done.returncode:
        return []
    records = done.stdout[:_OUTPUT_MOST].decode(errors="replace").split("\x1e")[1:]
    return [exhibit for record in records if (exhibit := _commit(record)) is not None]


def _commit(record: str) -> Exhibit | None:
    parts = record.split("\x1f")
    if len(parts) != 4:
        return None
    sha, at, subject, listed = parts
    try:
        moment = at_of(at)
    except ValueError:
        return None
    paths = [path for path in listed.split("\n") if path]
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    changed = f" ({', '.join(paths[:_MOST_PATHS])}{more})" if paths else ""
    text = plain_text(f"commit {sha}: {subject}{changed}", 600)
    return Exhibit(id="E0", kind=Kind.DEPLOY, at=moment, source="git log", text=text)
