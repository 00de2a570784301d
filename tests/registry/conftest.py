"""A registry directory that tests write and break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.errors import RegistryError
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_files import event_file


def a_handler(**changes: Any) -> dict[str, Any]:
    """The JSON form of a handler that is in order, with changes."""
    return {"name": "mail.send", "type": "task", "target": "os.path:join", "queue": "io"} | changes


def an_event(**changes: Any) -> dict[str, Any]:
    """The JSON form of an event that is in order, with changes."""
    event = {"name": "mail/received", "description": "A mail came in.", "priority": "P2"}
    return event | {"handlers": [a_handler()]} | changes


class RegistryDirectory:
    """Writes files below a registry directory and reads them as a registry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "events").mkdir(parents=True)

    def write(self, file: str, content: Any) -> None:
        """Write bytes as they are, text as UTF-8, anything else as JSON."""
        if not isinstance(content, bytes | str):
            content = json.dumps(content)
        (self.path / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    def write_event(self, **changes: Any) -> None:
        """Write an event that is in order, with changes, to the file of its name."""
        event = an_event(**changes)
        self.write(f"events/{event_file(event['name'])}", event)

    def write_handler(self, **changes: Any) -> None:
        """Write an event whose only handler is in order, with changes."""
        self.write_event(handlers=[a_handler(**changes)])

    def load(self) -> Registry:
        """The registry of the directory."""
        return Registry.load(self.path)

    def faults(self) -> list[str]:
        """The faults of the directory; fails when there are none."""
        with pytest.raises(RegistryError) as caught:
            self.load()
        for fault in caught.value.faults:
            assert fault in str(caught.value)
            assert "Input should" not in fault, "a fault speaks to people, not to users of pydantic"
        return list(caught.value.faults)


@pytest.fixture
def directory(tmp_path: Path) -> RegistryDirectory:
    """An empty registry directory."""
    return RegistryDirectory(tmp_path / "registry")
