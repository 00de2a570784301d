"""registry/models.json: which model each tier is, what it costs, how long it may take, what it may spend."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from joelclaw_tasks.registry_faults import Fault, nearest, plain_faults, shown
from joelclaw_tasks.registry_model import Strict, Text, refuse

#: The tiers, from the cheapest to the dearest.
TIERS = ("haiku", "sonnet", "opus")
#: Model ids that may be named. A dated snapshot of one of them must say that it is one.
ALLOWED = (
    "claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-haiku-5-5",
    "claude-sonnet-4-6", "claude-sonnet-5", "claude-sonnet-5-5",
    "claude-opus-4-5", "claude-opus-4-5-20251101", "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8",
    "claude-opus-5", "claude-opus-5-5",
)  # fmt: skip
#: What a price is counted in: 0.01 USD for a million tokens are 10 nano-USD for one.
NANO_USD = 1_000_000_000
_DATE = re.compile(r"-\d{8}$")
_MODEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,119}$"


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens. `cache_write` is the price for the tier's own cache_ttl."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal

    def cost_nano_usd(self, *, input: int, output: int, cache_write: int, cache_read: int) -> int:  # noqa: A002
        """What these tokens cost, in billionths of a US dollar, rounded once at the end."""
        cost = (
            self.input * input
            + self.output * output
            + self.cache_write * cache_write
            + self.cache_read * cache_read
        )
        return int((cost * 1_000).to_integral_value())

    def halved(self) -> Prices:
        """The prices of a batch."""
        return Prices(self.input / 2, self.output / 2, self.cache_write / 2, self.cache_read / 2)


@dataclass(frozen=True, slots=True)
class TierSpec:
    """One tier. Times in milliseconds, money in nano-USD (billionths of a US dollar)."""

    name: str
    model: str
    prices: Prices
    timeout_ms: int
    max_tokens: int
    effort: str | None
    cache_ttl: str
    daily_budget_nano_usd: int
    fallback: str | None

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "tier": self.name,
            "model": self.model,
            "usd_per_mtok": {name: float(getattr(self.prices, name)) for name in Prices.__slots__},
            "timeout_s": self.timeout_ms / 1000,
            "max_tokens": self.max_tokens,
            "effort": self.effort,
            "cache_ttl": self.cache_ttl,
            "daily_budget_usd": self.daily_budget_nano_usd / NANO_USD,
            "fallback": self.fallback,
        }


Usd = Annotated[float, Field(ge=0, le=10_000)]


class PricesModel(Strict):
    """US dollars for a million tokens."""

    input: Usd = Field(description="Tokens that no cache knows.")
    output: Usd = Field(description="Tokens of the answer, those of its thoughts included.")
    cache_write: Usd = Field(description="Tokens that are put into the cache, for the tier's cache_ttl.")
    cache_read: Usd = Field(description="Tokens that come from the cache.")

    @model_validator(mode="after")
    def _reading_is_cheapest(self) -> PricesModel:
        if not self.cache_read <= self.input <= self.cache_write:
            raise refuse(
                f"cache_read ({self.cache_read:g}), input ({self.input:g}) and cache_write "
                f"({self.cache_write:g}) must not fall in this order; look whether two of them are exchanged"
            )
        return self


class TierModel(Strict):
    """One tier of models."""

    model: Annotated[str, Field(pattern=_MODEL_PATTERN)] = Field(description="The id of the model.")
    snapshot: bool = Field(default=False, description="True: the id is a dated snapshot, and that is meant.")
    usd_per_mtok: PricesModel
    timeout_s: Annotated[float, Field(gt=0, le=600)] = Field(
        description="The longest that one call may take, in seconds."
    )
    max_tokens: Annotated[int, Field(ge=1, le=64_000)] = Field(description="The longest answer, in tokens.")
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How hard the model thinks; null: as it likes."
    )
    cache_ttl: Literal["5m", "1h"] = Field(default="5m", description="How long fixed text stays cached.")
    daily_budget_usd: Usd = Field(description="The most that a day (UTC) may cost; 0: the tier is off.")
    fallback: Literal["haiku", "sonnet", "opus"] | None = Field(
        default=None, description="The tier that is asked instead when this one does not answer."
    )
    description: Text | None = None

    @model_validator(mode="after")
    def _says_whether_it_is_dated(self) -> TierModel:
        dated = _DATE.search(self.model)
        if dated and not self.snapshot:
            raise refuse(
                f"{shown(self.model)} is a dated snapshot, whose price and behaviour go their own ways; "
                f'write {shown(self.model[: dated.start()])}, or add "snapshot": true'
            )
        if self.snapshot and not dated:
            raise refuse(f'snapshot is true, but {shown(self.model)} is no dated id; leave "snapshot" out')
        return self

    def to_spec(self, name: str) -> TierSpec:
        """The same as a value."""
        prices = self.usd_per_mtok
        return TierSpec(
            name=name,
            model=self.model,
            prices=Prices(**{each: Decimal(str(getattr(prices, each))) for each in Prices.__slots__}),
            timeout_ms=max(1, round(self.timeout_s * 1000)),
            max_tokens=self.max_tokens,
            effort=self.effort,
            cache_ttl=self.cache_ttl,
            daily_budget_nano_usd=int(Decimal(str(self.daily_budget_usd)) * NANO_USD),
            fallback=self.fallback,
        )


class TiersModel(Strict):
    """The tiers; one that is missing is off."""

    haiku: TierModel | None = None
    sonnet: TierModel | None = None
    opus: TierModel | None = None


class ModelsModel(Strict):
    """The whole of models.json."""

    schema_: str | None = Field(default=None, alias="$schema", description="For editors; not read.")
    allow: list[Annotated[str, Field(pattern=_MODEL_PATTERN)]] = Field(
        default_factory=list,
        max_length=50,
        description="Ids of models that this version does not know, and that are meant all the same.",
    )
    tiers: TiersModel


_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): ModelsModel,
    ("tiers",): TiersModel,
    **{("tiers", name): TierModel for name in TIERS},
    **{("tiers", name, "usd_per_mtok"): PricesModel for name in TIERS},
}


def read_tiers(document: Any) -> tuple[dict[str, TierSpec], list[Fault]]:
    """Validate the content of models.json: the tiers by name, and every fault."""
    try:
        read = ModelsModel.model_validate(document)
    except ValidationError as error:
        return {}, plain_faults(error, document, _MODELS.get)
    found = {name: tier for name in TIERS if (tier := getattr(read.tiers, name)) is not None}
    tiers = {name: tier.to_spec(name) for name, tier in found.items()}
    known = [*ALLOWED, *read.allow]
    faults: list[Fault] = []
    for name, tier in tiers.items():
        if tier.model not in known:
            near = nearest(tier.model, known)
            newer = 'one that is newer than this version goes into "allow"'
            sentence = f"{shown(tier.model)} is not on the list of models{near} ({newer})"
            faults.append((f"tiers.{name}.model", sentence))
        faults += _fallback_faults(tier, tiers)
    return (tiers, []) if not faults else ({}, faults)


def _fallback_faults(tier: TierSpec, tiers: Mapping[str, TierSpec]) -> list[Fault]:
    if tier.fallback is None:
        return []
    place = f"tiers.{tier.name}.fallback"
    other = tiers.get(tier.fallback)
    if other is None:
        return [
            (place, f"{shown(tier.fallback)} is not among the tiers{nearest(tier.fallback, list(tiers))}")
        ]
    if other.prices.output > tier.prices.output or other.prices.input > tier.prices.input:
        # A cheap tier in trouble must not become a dear bill.
        return [(place, f"{shown(other.name)} costs more than {tier.name}; fall back to a cheaper tier")]
    seen = [tier.name]
    step: TierSpec | None = other
    while step is not None:
        if step.name in seen:
            return [(place, f"leads back to {shown(step.name)}; leave out one of the fallbacks")]
        seen.append(step.name)
        step = tiers.get(step.fallback) if step.fallback else None
    return []


def models_schema() -> str:
    """The text of registry/models.schema.json, generated from the models."""
    schema = ModelsModel.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Model tiers"}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
