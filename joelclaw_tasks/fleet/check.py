"""Check: one finding of the doctor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do about it (`fix` is None when it is well)."""

    name: str
    status: Status
    detail: str
    fix: str | None = None


def ok(name: str, detail: str) -> Check:
    """It is well."""
    return Check(name, "ok", detail)


def warn(name: str, detail: str, fix: str) -> Check:
    """It works, but not as it should."""
    return Check(name, "warn", detail, fix)


def fail(name: str, detail: str, fix: str) -> Check:
    """It does not work, or loses work."""
    return Check(name, "fail", detail, fix)


def worst(checks: Iterable[Check]) -> Status:
    """The status of all checks together."""
    found = {check.status for check in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"
