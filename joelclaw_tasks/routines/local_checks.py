"""Checks of this machine: its disks, and whatever function somebody names."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from joelclaw_tasks.core.redaction import redacted, secrets_of
from joelclaw_tasks.routines.finding import STATUSES, Finding

_DISK_WARN_BYTES, _DISK_LEAST_BYTES = 1 << 30, 100 << 20


def check_disk(asked: Mapping[str, Any]) -> Finding:
    """Room under each of `paths`; of one that is not there yet, where it would be."""
    least, where = None, ""
    for path in map(Path, asked["paths"]):
        place = path.absolute()
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if least is None or free < least:
            least, where = free, str(place)
    assert least is not None
    said = f"has {least / (1 << 30):.1f} GiB free under {where}"
    if least < _DISK_LEAST_BYTES:
        return Finding("down", said)
    return Finding("degraded" if least < _DISK_WARN_BYTES else "healthy", said)


def check_python(asked: Mapping[str, Any]) -> Finding:
    """What the function says: None is healthy, a text is its detail; or (status, detail)."""
    module, _, name = asked["target"].partition(":")
    began = time.monotonic()
    said = getattr(import_module(module), name)()
    ms = (time.monotonic() - began) * 1_000
    pair: Any = said if isinstance(said, tuple | list) and len(said) == 2 else ("healthy", said)
    status, detail = pair
    if status not in STATUSES or not isinstance(detail, str | None):
        raise TypeError("the function must answer None, a text, or (status, text)")
    return Finding(status, redacted(detail or f"is {status}", secrets_of())[:300], ms)
