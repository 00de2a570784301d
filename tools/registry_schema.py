"""Write registry/event.schema.json again, after a change of joelclaw_tasks/registry_schema.py."""

from __future__ import annotations

from pathlib import Path

from joelclaw_tasks.registry_schema import event_schema

if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "registry" / "event.schema.json"
    target.write_text(event_schema(), encoding="utf-8")
    print(f"wrote {target}")
