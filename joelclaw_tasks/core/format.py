"""Format: what older code must understand to work with what newer code has written.

It is raised by whoever changes keys, job records or messages in a way that older workers would get wrong.
Versions of the same format may work side by side, in both directions; newer code reads all older formats.
"""

from __future__ import annotations

from typing import Any

import redis

from joelclaw_tasks.core.caller import is_full
from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.errors import NewerFormat

FORMAT = 1
#: Message property: the format that a worker must know; a message without it has format 1.
FORMAT_PROPERTY = "jc_format"


def enter_format(client: Any, keys: Keys) -> None:
    """Before a worker works: raise what Redis holds to our format. Raises NewerFormat if it is beyond us."""
    if client.get(keys.format) is None:
        try:
            client.set(keys.format, FORMAT, nx=True)
        except redis.exceptions.ResponseError as error:
            if not is_full(error):
                raise
    found = int(client.get(keys.format) or 1)  # a full Redis is told by the next worker, and served meanwhile
    require_known(found, "what this Redis holds")
    if found < FORMAT:
        client.set(keys.format, FORMAT)


def require_known(found: int, what: str) -> None:
    """Raises NewerFormat."""
    if found > FORMAT:
        raise NewerFormat(f"{what} has format {found}; this joelclaw_tasks knows formats up to {FORMAT}")
