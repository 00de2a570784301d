"""Write registry/*.schema.json again, after a change of registry_schema.py, _tiers.py or _health.py."""

from __future__ import annotations

from pathlib import Path

from joelclaw_tasks.registry_health import health_schema
from joelclaw_tasks.registry_schema import event_schema
from joelclaw_tasks.registry_tiers import models_schema

if __name__ == "__main__":
    registry = Path(__file__).resolve().parent.parent / "registry"
    for name, text in (("event", event_schema()), ("models", models_schema()), ("health", health_schema())):
        target = registry / f"{name}.schema.json"
        target.write_text(text, encoding="utf-8")
        print(f"wrote {target}")
