"""Reading events from what people type, files and streams: strict JSON, every fault named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joelclaw_tasks.errors import InvalidEvent, PayloadTooLarge

if TYPE_CHECKING:
    from joelclaw_tasks.new_event import NewEvent

_ESCAPED_BYTES = 6  # the longest JSON spelling of one byte of payload: \u0041
_FAULTS_SHOWN = 20
#: What a line may hold, and of which types.
_LINE: dict[str, tuple[type, ...]] = {
    "name": (str,), "data": (dict,), "id": (str, type(None)), "priority": (str, int, type(None)),
    "source": (str,), "delay_s": (int, float, type(None)), "expires_s": (int, float, type(None)),
    "meta": (dict,),
}  # fmt: skip


def read_data(given: str | None, max_bytes: int) -> dict[str, Any]:
    """The object that `--data` means: JSON text, @file, `-` for stdin; nothing is {}.

    Raises InvalidEvent, PayloadTooLarge.
    """
    if given is None:
        return {}
    if given == "-":
        raw, origin = sys.stdin.buffer.read(max_bytes * _ESCAPED_BYTES + 1), "stdin"
    elif given.startswith("@"):
        raw, origin = _read_file(given[1:], max_bytes), given[1:]
    else:
        raw, origin = given.encode("utf-8", "surrogateescape"), "--data"
    if len(raw) > max_bytes * _ESCAPED_BYTES:
        raise PayloadTooLarge(f"{origin} is larger than any event of {max_bytes} bytes can be")
    return _object(raw, origin)


def read_lines(defaults: dict[str, Any]) -> list[NewEvent]:
    """The events of stdin, one JSON object a line; blank lines are skipped.

    With a `name` in defaults each line is the data of one such event, else an envelope.
    All lines are read before anything is queued, and all faulty ones are reported.
    Raises InvalidEvent.
    """
    from joelclaw_tasks.new_event import NewEvent

    events, faults = [], []
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        if not raw.strip():
            continue
        try:
            line = _object(raw, f"line {number}")
            envelope = {"data": line} if "name" in defaults else _envelope(line, number)
            events.append(NewEvent(**{**defaults, **envelope}))
        except InvalidEvent as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - _FAULTS_SHOWN
        listing = faults[:_FAULTS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise InvalidEvent("nothing was emitted:\n" + "\n".join(f"  - {fault}" for fault in listing))
    return events


def _envelope(line: dict[str, Any], number: int) -> dict[str, Any]:
    if "name" not in line:
        raise InvalidEvent(f"line {number}: needs a name")
    for key, value in line.items():
        if key not in _LINE:
            raise InvalidEvent(f"line {number}: unknown key {key[:120]!r}; known are {', '.join(_LINE)}")
        if not isinstance(value, _LINE[key]) or isinstance(value, bool):
            raise InvalidEvent(f"line {number}: {key} must not be {_kind(value)}")
    return {"data": {}, **line}


def _read_file(name: str, max_bytes: int) -> bytes:
    try:
        with Path(name).expanduser().open("rb") as file:
            return file.read(max_bytes * _ESCAPED_BYTES + 1)
    except OSError as error:
        raise InvalidEvent(f"cannot read {name}: {error.strerror}") from None


def _object(raw: bytes, origin: str) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"{origin} is not UTF-8: byte {error.start}") from None
    except RecursionError:
        raise InvalidEvent(f"{origin} is nested too deeply") from None
    except ValueError as error:
        raise InvalidEvent(f"{origin} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidEvent(f"{origin} must be a JSON object, not {_kind(value)}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "an array"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, dict):
        return "an object"
    return json.dumps(value) if value is None or isinstance(value, bool) else "a number"
