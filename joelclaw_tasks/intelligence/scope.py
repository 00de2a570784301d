"""Scope: which families an observer looks at, and which it may act on by itself. See docs/observer.md."""

from __future__ import annotations

from dataclasses import dataclass

from joelclaw_tasks.family_names import EVERY, families_of
from joelclaw_tasks.quiet import QuietHours
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings

_SHORTEST_INTERVAL_S = 60


@dataclass(frozen=True, slots=True)
class Scope:
    """`mode` is off, dry-run or enforce. Of the families, None stands for every one.

    `observed` are looked at, `auto` may be acted on, `night` rest in the quiet hours.
    """

    mode: str = "off"
    observed: frozenset[str] | None = None
    auto: frozenset[str] | None = frozenset()
    night: frozenset[str] | None = frozenset()
    interval_ms: int = 60_000
    quiet: QuietHours | None = None

    @classmethod
    def of(cls, settings: Settings, registry: Registry | None) -> Scope:
        """From the settings. Where none are named, the registry's are observed. Raises SettingsError."""
        known = frozenset(registry.events) if registry is not None else frozenset()
        observed = _names(settings.observer_families)
        auto = _names(settings.observer_auto_families)
        if settings.observer_families == "":
            observed = known
        return cls(
            mode=settings.observer_mode,
            observed=observed,
            auto=_both(auto, observed),
            night=_names(settings.observer_night_families),
            interval_ms=1_000 * max(_SHORTEST_INTERVAL_S, settings.observer_interval_seconds),
            quiet=QuietHours.parse(settings.observer_quiet_hours),
        )


def _both(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return other if one is None else one if other is None else one & other


def _names(text: str) -> frozenset[str] | None:
    """The families of a list with commas; None: all of them, whatever they are."""
    names = families_of(text)
    return None if EVERY in names else names
