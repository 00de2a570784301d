"""Which families a model scores before they run: QUEUE_TRIAGE_MODE, _FAMILIES and _ENFORCE_FAMILIES.

`off`: none. `shadow`: they run at once, and the score is noted only. `enforce`: they are held for it, for
`triage_hold_ms` at most. A protected family is never scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.family_names import EVERY, families_of
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

Mode = Literal["off", "shadow", "enforce"]


@dataclass(frozen=True, slots=True)
class TriageModes:
    """The mode of each family. `families` None: all of them."""

    base: Mode = "off"
    families: frozenset[str] | None = None
    enforced: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, mode: str, families: str, enforced: str, protected: Iterable[str]) -> TriageModes:
        """Read what the environment says: comma-separated names and aliases. Raises SettingsError."""
        if mode not in get_args(Mode):
            raise SettingsError(
                f"QUEUE_TRIAGE_MODE must be off, shadow or enforce, not {mode!r:.40}",
                fix="Set QUEUE_TRIAGE_MODE to one of these, or leave it out: off.",
            )
        named = families_of(families)
        chosen = None if not named or EVERY in named else named
        return cls(cast("Mode", mode), chosen, families_of(enforced), frozenset(protected))

    @classmethod
    def of_settings(cls, settings: Settings, registry: Registry) -> TriageModes:
        """Those of this registry. Raises SettingsError."""
        protected = [event.name for event in registry.events.values() if event.protected]
        texts = (settings.triage_mode, settings.triage_families, settings.triage_enforce_families)
        return cls.parse(*texts, protected)

    def of(self, family: str) -> Mode:
        """Off when triage is off or the family is protected or not chosen; else enforce when it is named so.

        Else the base mode.
        """
        if self.base == "off" or family in self.protected:
            return "off"
        if self.families is not None and family not in self.families:
            return "off"
        return "enforce" if family in self.enforced else self.base
