"""Write registry/*.schema.json again, after a change of the models in joelclaw_tasks/registry_*.py."""

from __future__ import annotations

from pathlib import Path

from joelclaw_tasks.registry_health import health_schema
from joelclaw_tasks.registry_schedules import schedules_schema
from joelclaw_tasks.registry_schema import event_schema
from joelclaw_tasks.registry_tiers import models_schema

if __name__ == "__main__":
    registry = Path(__file__).resolve().parent.parent / "registry"
    schemas = {
        "event": event_schema(),
        "models": models_schema(),
        "health": health_schema(),
        "schedules": schedules_schema(),
    }
    for name, text in schemas.items():
        target = registry / f"{name}.schema.json"
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
