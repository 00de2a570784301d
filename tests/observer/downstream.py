"""A downstream that a test can switch off, and the handler that needs it."""

from __future__ import annotations

import socket
from typing import Any

ADDRESS: list[tuple[str, int]] = []


def deliver(event: Any, deps: Any) -> None:
    with socket.create_connection(ADDRESS[0], timeout=2) as connection:
        connection.sendall(event.id.encode())
