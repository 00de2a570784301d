"""Failure: why a job is in the dead letter, and the signature by which equal failures are found together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

from joelclaw_tasks.core.redaction import redacted

ERROR_MOST = 2_000
TRACEBACK_MOST = 8_000
#: Of a text that is far longer than what is kept, this much of each end is looked at.
_ENDS_MOST = 32_000
_HEAD_MOST = 1_500
_CUT = "\n…\n"

_FRAME = re.compile(r'^ {2}File "([^"\n]+)", line \d+, in ([^\n]+)$', re.MULTILINE)
_START = "Traceback (most recent call last):\n"
_NEXT = re.compile(r"\n\n(?:During handling of the above|The above exception was the direct cause)")
#: Code that calls tasks, and code that tasks call: the cause is seldom there.
_FOREIGN = re.compile(
    r"[/\\](?:site|dist)-packages[/\\]|[/\\]lib(?:64)?[/\\]python\d[\d.]*t?[/\\]|^<"
    r"|[/\\]joelclaw_tasks[/\\](?:broker|fleet)[/\\]"
)
#: What differs between two failures of one cause, in the order in which it is looked for.
_VARIABLE = tuple(
    (re.compile(pattern), placeholder)
    for pattern, placeholder in (
        (r"""(?<!\w)"(?:\\.|[^"\\])*"(?!\w)""", "<text>"),
        (r"""(?<!\w)'(?:\\.|[^'\\]|'(?=\w))*'(?!\w)""", "<text>"),
        (r"\b\w{1,20}://\S+", "<url>"),
        (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?", "<time>"),
        (r"(?i)\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
        (r"(?<![\w.])[\w.@~+-]{0,80}(?:[/\\][\w.@+-]{1,80})+[/\\]?", "<path>"),
        (r"(?i)\b(?:0x[0-9a-f]+|(?=[a-f]*\d)[0-9a-f]{8,})\b", "<hex>"),
        (r"\d+(?:[.,:]\d+)*", "<n>"),
        (r"\s+", " "),
    )
)
_MESSAGE_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job was discarded; secrets are taken out of it already.

    `error` is one line for people. `place` is the top frame of the project's own code
    (`shop/tasks.py:charge`), or without a traceback what the job was to run. Failures of one cause have
    the same `signature`.
    """

    error: str
    signature: str
    place: str = ""
    traceback: str = ""

    @classmethod
    def of(
        cls,
        kind: str,
        text: str,
        *,
        place: str = "",
        traceback: str = "",
        frames: str = "",
        secrets: Collection[str] = (),
    ) -> Failure:
        """The failure of an exception of the type `kind`, which may be qualified, with this text.

        `frames` is the part of the traceback that says where (default: all of it). Where there is none,
        `place` says so.
        """
        kind = kind.rpartition(".")[2]
        text = redacted(text[:_ENDS_MOST], secrets)
        frame = top_frame(frames or traceback)
        return cls(
            f"{kind}: {text}"[:ERROR_MOST] if text else kind,
            signature_of(kind, text, frame or place),
            frame or place,
            _bounded(traceback, secrets),
        )

    @classmethod
    def without_exception(
        cls, kind: str, reason: str, *, place: str = "", secrets: Collection[str] = ()
    ) -> Failure:
        """The failure of a job in which nothing was raised; `kind` is one word for reasons like this."""
        reason = redacted(reason[:_ENDS_MOST], secrets)[:ERROR_MOST]
        return cls(reason, signature_of(kind, reason, place), place)


def signature_of(kind: str, text: str, place: str) -> str:
    """The same for failures of the same type, at the same place, whose texts differ in values only."""
    digest = hashlib.sha256("\n".join((kind, normalised(text), place)).encode(errors="replace"))
    return f"{re.sub('[^A-Za-z0-9_]', '', kind)[:40] or 'Failure'}-{digest.hexdigest()[:10]}"


def normalised(text: str) -> str:
    """The text of an error without its values: numbers, quoted text, ids, times, paths."""
    text = text[:_MESSAGE_MOST]
    for pattern, placeholder in _VARIABLE:
        text = pattern.sub(placeholder, text)
    return text.strip()


def top_frame(traceback: str) -> str:
    """`folder/file.py:function` of the last frame in the project's own code, else of the very last one."""
    frames = _FRAME.findall(traceback[-_ENDS_MOST:].rpartition(_START)[2])
    own = [frame for frame in frames if not _FOREIGN.search(frame[0])]
    if not frames:
        return ""
    path, function = (own or frames)[-1]
    place = "/".join(path.replace("\\", "/").split("/")[-2:])
    return f"{place}:{function}"[:200]


def tracebacks_of(traceback: str) -> list[str]:
    """The single tracebacks of a chain of exceptions, the first that was raised first."""
    return [_START + part for part in traceback.split(_START)[1:]]


def raised_by(traceback: str) -> tuple[str, str]:
    """The type, unqualified, and the text of the exception at the end of a single traceback."""
    lines = _NEXT.split(traceback, 1)[0].split("\n")[1:]
    last = [number for number, line in enumerate(lines) if line.startswith("  ")]
    kind, _, text = "\n".join(lines[last[-1] + 1 if last else 0 :]).strip().partition(": ")
    return kind.rpartition(".")[2], text


def _bounded(traceback: str, secrets: Collection[str]) -> str:
    if len(traceback) <= 2 * _ENDS_MOST:
        text = redacted(traceback, secrets)
        if len(text) <= TRACEBACK_MOST:
            return text
        head, tail = text, text
    else:
        head, tail = redacted(traceback[:_ENDS_MOST], secrets), redacted(traceback[-_ENDS_MOST:], secrets)
    return head[:_HEAD_MOST] + _CUT + tail[_HEAD_MOST + len(_CUT) - TRACEBACK_MOST :]
