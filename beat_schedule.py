"""What beat fires for the fleet itself, one entry each. Any number of beats fire each entry once.

Beside these it emits the events of registry/schedules.json, and sends a look for each check of
registry/health.json that is not off.
"""

from typing import Any

from joelclaw_tasks.settings import Settings

_settings = Settings.load()

beat_schedule: dict[str, dict[str, Any]] = {
    "notify": {"task": "joelclaw.notify", "schedule": 60.0, "options": {"expires": 55}},
}

# The observer is off unless somebody wants it (docs/observer.md). A pass that comes late is of no use.
if _settings.observer_mode != "off":
    _every_s = float(max(60, _settings.observer_interval_seconds))
    beat_schedule["observer"] = {
        "task": "joelclaw.observe",
        "schedule": _every_s,
        "options": {"expires": _every_s - 5},
    }

# What fails again and again, or as never before, is diagnosed if somebody wants it (docs/diagnosis.md).
if _settings.diagnosis_mode != "off":
    beat_schedule["diagnosis"] = {
        "task": "joelclaw.diagnose",
        "schedule": 300.0,
        "options": {"expires": 295},
    }

# Each window of time is told in a page if somebody wants it (docs/digest.md).
if _settings.digest_mode != "off":
    beat_schedule["digest"] = {"task": "joelclaw.digest", "schedule": 60.0, "options": {"expires": 55}}
