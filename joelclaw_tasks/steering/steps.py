"""Steps: many things, some at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def steps(items: Iterable[Item], at_once: int) -> Iterator[list[Item]]:
    """The items in lists of so many."""
    remaining = iter(items)
    while step := list(islice(remaining, at_once)):
        yield step
