"""The state of `queue watch`: what is on the screen and which row is selected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class WatchState:
    """What is on the screen. `detail` is what `i` asked about.

    `seen_at` is when the picture came, in epoch milliseconds of this machine; one that is older than
    `stale_ms` is said to be old.
    """

    redis: str
    seen_at: int
    stale_ms: int
    picture: dict[str, Any] | None = None
    selected: str = ""
    detail: dict[str, Any] | None = None
    notice: str = ""
    first_row: int = 0

    def families(self) -> list[dict[str, Any]]:
        """The families that are alive, in the order of the screen: the most waiting first."""
        if self.picture is None:
            return []
        alive = [each for each in self.picture["families"] if any(each["by_state"].values())]
        idle = [
            each
            for each in self.picture["families"]
            if not any(each["by_state"].values()) and any(each["rates"].values())
        ]
        return alive + idle

    def move(self, steps: int) -> None:
        """Select another family, so many rows further down."""
        names = [each["family"] for each in self.families()]
        if names:
            row = names.index(self.selected) if self.selected in names else 0
            self.selected = names[max(0, min(len(names) - 1, row + steps))]

    def pauses_of(self, family: str) -> list[dict[str, Any]]:
        """The pauses by which this family itself is held."""
        pauses = self.picture["pauses"] if self.picture else []
        return [each for each in pauses if each["gate"] == f"pause:family/{family}"]
