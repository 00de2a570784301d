"""The envelope: the one JSON document that every command answers with when it is piped.

    {"ok": true,  "command": "joelclaw queue depth", "result": {…}, "error": null, "fix": null,
     "next_actions": [{"command": "joelclaw queue list", "description": "…"}]}
    {"ok": false, "command": "joelclaw queue inspect", "result": null,
     "error": {"code": "QUEUE_MESSAGE_MISSING", "message": "…", "details": {…}?},
     "fix": "…", "next_actions": […]}

All six keys are always there. A next action with `params` is a template
(`<required>`, `[--flag <value>]`); without, it can be run as it stands.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.core.redaction import without_url_passwords
from joelclaw_tasks.errors import CoreUnreachable, JoelclawError

if TYPE_CHECKING:
    from rich.console import Console

_DEEPEST = 100  # json.dumps recurses; a payload must not be able to exhaust the stack


class ExitCode(IntEnum):
    """What the process answers to the shell."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    # What `joelclaw health` found.
    DEGRADED = 4
    DOWN = 5
    UNKNOWN = 6
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class NextAction:
    """A command that makes sense after this one; `params` describes the holes of a template."""

    command: str
    description: str
    params: Mapping[str, Mapping[str, Any]] | None = None

    def to_wire(self) -> dict[str, Any]:
        """The JSON form; the command always starts with `joelclaw`."""
        prefixed = self.command == "joelclaw" or self.command.startswith("joelclaw ")
        command = self.command if prefixed else f"joelclaw {self.command}"
        wire: dict[str, Any] = {"command": command, "description": self.description}
        if self.params:
            wire["params"] = {name: dict(param) for name, param in self.params.items()}
        return wire


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command returns when it succeeds.

    `result` is anything JSON-like. `view` draws it on a terminal (a rich Console of stdout);
    None draws the result as JSON.
    """

    result: Any
    next_actions: Sequence[NextAction] = ()
    view: Callable[[Console], None] | None = None


class CommandFailed(JoelclawError):
    """A command refuses or fails, with a code of its own.

    `details` is anything JSON-like that a program may want beside the message; `view` draws
    more than the message on a terminal (a rich Console of stderr).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        fix: str,
        details: Mapping[str, Any] | None = None,
        next_actions: Sequence[NextAction] = (),
        exit_code: ExitCode = ExitCode.FAILED,
        view: Callable[[Console], None] | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.code = code
        self.details = details
        self.next_actions = next_actions
        self.exit_code = exit_code
        self.view = view


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception in the envelope's terms."""

    code: str
    message: str
    fix: str
    exit_code: ExitCode
    details: Mapping[str, Any] | None = None
    next_actions: Sequence[NextAction] = field(default=())
    view: Callable[[Console], None] | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Any exception: ours by its code, a lost connection, Ctrl-C, or an internal error."""
        if isinstance(error, CommandFailed):
            return cls(
                error.code, without_url_passwords(str(error)), error.fix, error.exit_code,
                error.details, error.next_actions, error.view,
            )  # fmt: skip
        if _is_unreachable(error):
            ours = error if isinstance(error, CoreUnreachable) else CoreUnreachable
            message = without_url_passwords(str(error))
            return cls(ours.code, message, ours.fix, ExitCode.UNREACHABLE)
        if isinstance(error, JoelclawError):
            faults = getattr(error, "faults", None)
            details = {"faults": list(faults)} if faults else getattr(error, "details", None)
            return cls(error.code, without_url_passwords(str(error)), error.fix, ExitCode.FAILED, details)
        if isinstance(error, KeyboardInterrupt):
            fix = "Run the command again; nothing is left half done."
            return cls("INTERRUPTED", "interrupted", fix, ExitCode.INTERRUPTED)
        message = without_url_passwords(f"{type(error).__name__}: {error}")
        fix = "This is a defect: run again with --debug and report the traceback."
        return cls("INTERNAL_ERROR", message, fix, ExitCode.FAILED)


def succeeded(command: str, outcome: Outcome) -> dict[str, Any]:
    """The envelope of a success. `command` is the command path, beginning with `joelclaw`."""
    return {
        "ok": True,
        "command": command,
        "result": outcome.result,
        "error": None,
        "fix": None,
        "next_actions": [action.to_wire() for action in outcome.next_actions],
    }


def failed(command: str, failure: Failure) -> dict[str, Any]:
    """The envelope of a failure. `command` is the command path, beginning with `joelclaw`."""
    error: dict[str, Any] = {"code": failure.code, "message": failure.message or failure.code}
    if failure.details:
        error["details"] = dict(failure.details)
    return {
        "ok": False,
        "command": command,
        "result": None,
        "error": error,
        "fix": failure.fix or JoelclawError.fix,
        "next_actions": [action.to_wire() for action in failure.next_actions],
    }


def to_json(value: Any, *, one_line: bool = False) -> str:
    """JSON, pretty or in one line, that every strict parser reads and every terminal survives: ASCII only.

    NaN and infinities become null, lone surrogates the text of their escape, and whatever
    JSON cannot say becomes text.
    """
    indent = None if one_line else 2
    return json.dumps(_jsonable(value, 0), indent=indent, ensure_ascii=True, allow_nan=False)


def _jsonable(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return f"<nested deeper than {_DEEPEST}>"
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {_encodable(str(key)): _jsonable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each, depth + 1) for each in value]
    if isinstance(value, AbstractSet):
        return sorted((_jsonable(each, depth + 1) for each in value), key=str)
    if hasattr(value, "to_wire"):
        return _jsonable(value.to_wire(), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return _jsonable(named, depth + 1)
    return _encodable(str(value))


def _encodable(text: str) -> str:
    # I-JSON forbids lone surrogates and strict parsers refuse the whole document for one.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_unreachable(error: BaseException) -> bool:
    if isinstance(error, CoreUnreachable):
        return True
    # Looked up, not imported: an exception of a library that is not loaded cannot be here.
    redis_errors = sys.modules.get("redis.exceptions")
    if redis_errors is None:
        return False
    return isinstance(error, (redis_errors.ConnectionError, redis_errors.TimeoutError))
