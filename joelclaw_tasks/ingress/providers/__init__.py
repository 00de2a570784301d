"""The providers whose webhooks the ingress understands: how each signs, and what its deliveries mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.datastructures import Headers


@dataclass(frozen=True, slots=True)
class NormalisedEvent:
    """One event found in a delivery. `id` is the same for every delivery of the same thing."""

    name: str
    id: str
    data: dict[str, Any]
    meta: dict[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """What the webhook route needs to know of a provider."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        ...

    @property
    def secret_variable(self) -> str:
        """The environment variable that holds its signing secret."""
        ...

    def signature(self, headers: Headers) -> bytes | None:
        """The raw signature header; None when it is missing or given twice."""
        ...

    def glance(self, body: bytes | bytearray) -> Mapping[str, Any]:
        """At least what `normalise` reads of a body. Raises ValueError for anything unusual about it."""
        ...

    def normalise(self, body: Mapping[str, Any], headers: Headers) -> list[NormalisedEvent]:
        """The events of one verified delivery, perhaps none. Raises ValueError when it makes no sense."""
        ...
