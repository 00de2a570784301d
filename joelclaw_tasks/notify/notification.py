"""Notification: something that a person is told, in plain language."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from joelclaw_tasks.core.redaction import redacted, secrets_of

Severity = Literal["info", "warning", "error", "critical"]
#: How the state of a cause moves. Empty: something was noticed, and nothing goes on.
Change = Literal["", "opened", "changed", "resolved"]
ButtonVerb = Literal["pause", "resume", "mute", "accept", "reject", "approve", "deny"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
MOST_CAUSE, MOST_TEXT = 200, 8_000


@dataclass(frozen=True, slots=True)
class Button:
    """What a person may do with one press.

    A steering verb on a gate, `mute` of a cause, a verdict, or the answer to an approval (`<run>/<step>`).
    The target of a verdict is the id of a diagnosis. `ttl` is how long it lasts, as steering takes it (`4h`);
    empty: it has no end, or needs none.
    """

    verb: ButtonVerb
    target: str
    label: str
    ttl: str = ""

    def to_wire(self) -> dict[str, str]:
        """As JSON-able values."""
        return {"verb": self.verb, "target": self.target, "label": self.label, "ttl": self.ttl}

    @classmethod
    def of(cls, wire: Mapping[str, Any]) -> Button:
        """From those. Raises KeyError, ValueError."""
        if wire["verb"] not in get_args(ButtonVerb):
            raise ValueError("no button has this verb")
        return cls(wire["verb"], str(wire["target"]), str(wire["label"]), str(wire["ttl"]))


def resume_button(gate: str) -> Button:
    """Lets a paused gate go."""
    return Button("resume", gate, "Resume now")


def approve_pause_button(gate: str, ttl: str = "1h") -> Button:
    """Carries out a pause that is proposed."""
    return Button("pause", gate, f"Approve: pause {ttl}", ttl)


def mute_button(cause: str, ttl: str = "4h") -> Button:
    """Stops a cause for a while."""
    return Button("mute", cause, f"Mute {ttl.removesuffix('h')} h", ttl)


def verdict_buttons(diagnosis: str) -> tuple[Button, Button]:
    """Say whether a diagnosis was right."""
    return Button("accept", diagnosis, "It was right"), Button("reject", diagnosis, "It was wrong")


@dataclass(frozen=True, slots=True)
class Notification:
    """`cause` groups what belongs together. Text and cause are cleaned: no control characters, no secrets.

    `change` says that the state of a cause begins (opened), moves (changed) or is over (resolved). What is
    opened may end by itself at `ends_at` (epoch ms).
    """

    text: str
    cause: str
    severity: Severity = "info"
    change: Change = ""
    ends_at: int | None = None
    buttons: Sequence[Button] = ()

    @classmethod
    def clean(
        cls,
        text: object,
        *,
        cause: object,
        severity: object = "info",
        change: object = "",
        ends_at: int | None = None,
        buttons: Sequence[Button] = (),
    ) -> Notification:
        """Of whatever is given. An unknown severity counts as a warning, an unknown change as none."""
        level: Any = severity if severity in SEVERITIES else "warning"
        moved: Any = change if change in get_args(Change) else ""
        said = redacted(_printable(str(text)), secrets_of()).strip()
        return cls(
            said[:MOST_TEXT] or "(no text)",
            " ".join(_printable(str(cause)).split())[:MOST_CAUSE] or "unknown",
            level,
            moved,
            ends_at,
            tuple(buttons),
        )

    @property
    def level(self) -> int:
        """The severity as a number, 0 to 3."""
        return SEVERITIES.index(self.severity)


def _printable(text: str) -> str:
    """Without what could drive a terminal or break an encoding; lines stay lines."""
    return "".join(char for char in text if char == "\n" or unicodedata.category(char) not in ("Cc", "Cs"))


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification on its way to a sink. With `lines` it is a digest of several. `at`: epoch ms."""

    id: str
    at: int
    text: str
    cause: str
    severity: Severity = "info"
    change: Change = ""
    buttons: Sequence[Button] = ()
    lines: Sequence[str] = ()

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> Notice:
        """From its JSON. Raises KeyError, ValueError."""
        return cls(
            str(note["id"]),
            int(note["at"]),
            str(note["text"]),
            str(note["cause"]),
            note["severity"] if note.get("severity") in SEVERITIES else "warning",
            note["change"] if note.get("change") in get_args(Change) else "",
            tuple(Button.of(each) for each in note.get("buttons", ())),
        )

    @property
    def headline(self) -> str:
        """The text with the severity before it, unless that is info."""
        return self.text if self.severity == "info" else f"{self.severity}: {self.text}"


def note_of(notification: Notification, id: str, at: int) -> dict[str, Any]:
    """What is kept of a notification, and what sinks get."""
    note: dict[str, Any] = {
        "id": id,
        "at": at,
        "text": notification.text,
        "cause": notification.cause,
        "severity": notification.severity,
        "change": notification.change,
    }
    if notification.buttons:
        note["buttons"] = [button.to_wire() for button in notification.buttons]
    return note
