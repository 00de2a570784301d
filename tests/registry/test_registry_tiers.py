"""registry/models.json: what a tier is, and what is wrong with one, in words that help."""

from __future__ import annotations

import json
import typing
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_tiers import ALLOWED, models_schema
from tests.registry.conftest import RegistryDirectory

ROOT = Path(__file__).resolve().parents[2]
PRICES = {"input": 0.1, "output": 0.5, "cache_write": 0.125, "cache_read": 0.01}
DEAR = {"input": 2, "output": 10, "cache_write": 2.5, "cache_read": 0.1}


def a_tier(**changes: Any) -> dict[str, Any]:
    tier = {
        "model": "claude-haiku-5-5", "usd_per_mtok": PRICES, "timeout_s": 2.5, "max_tokens": 1000,
        "daily_budget_usd": 0.25,
    }  # fmt: skip
    return {name: value for name, value in (tier | changes).items() if value is not ...}


def a_document(changes: dict[str, Any] | None = None, **tiers: Any) -> dict[str, Any]:
    return {"tiers": {"haiku": a_tier(**(changes or {})), **tiers}}


def test_a_tier_in_order_becomes_a_spec(directory: RegistryDirectory):
    directory.write_event()
    directory.write("models.json", a_document({"effort": "low", "cache_ttl": "1h"}))

    tier = directory.load().tiers["haiku"]

    assert ("haiku", "claude-haiku-5-5", 2_500, 1_000) == (
        tier.name, tier.model, tier.timeout_ms, tier.max_tokens,
    )  # fmt: skip
    assert (Decimal("0.125"), 250_000_000, "low", "1h", None) == (
        tier.prices.cache_write, tier.daily_budget_nano_usd, tier.effort, tier.cache_ttl, tier.fallback,
    )  # fmt: skip


def test_without_the_file_there_are_no_tiers_and_the_version_stays_the_same(directory: RegistryDirectory):
    directory.write_event()
    without = directory.load()
    directory.write("models.json", a_document())

    assert {} == dict(without.tiers)
    assert without.version != directory.load().version


SNAPSHOT = "claude-haiku-4-5-20251001"
DATED = (
    f'tiers.haiku: "{SNAPSHOT}" is a dated snapshot, whose price and behaviour go their own ways; '
    'write "claude-haiku-4-5", or add "snapshot": true'
)
UNKNOWN = (
    'tiers.haiku.model: "claude-haiku-55" is not on the list of models; did you mean '
    '"claude-haiku-5-5"? (one that is newer than this version goes into "allow")'
)


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ([], ["models.json: must be an object in { }, not []"]),
        ({}, ["models.json: tiers: is missing; add it"]),
        ({"tiers": {"hiaku": a_tier()}}, ['tiers.hiaku: is not a known field; did you mean "haiku"?']),
        (a_document({"modle": 1}), ['tiers.haiku.modle: is not a known field; did you mean "model"?']),
        (a_document({"model": ...}), ["tiers.haiku.model: is missing; add it"]),
        (
            a_document({"model": "claude-haiku-55"}),
            [UNKNOWN],
        ),
        (a_document({"model": "haiku"}), ['tiers.haiku.model: "haiku" is not on the list of models']),
        (
            a_document({"model": SNAPSHOT}),
            [DATED],
        ),
        (a_document({"snapshot": True}), ['snapshot is true, but "claude-haiku-5-5" is no dated id']),
        (a_document({"effort": "lots"}), ['effort: must be "low", "medium", "high", "xhigh" or "max"']),
        (a_document({"timeout_s": 0}), ["tiers.haiku.timeout_s: must be more than 0, not 0"]),
        (a_document({"max_tokens": 1.5}), ["tiers.haiku.max_tokens: must be a whole number, not 1.5"]),
        (a_document({"daily_budget_usd": -1}), ["tiers.haiku.daily_budget_usd: must be at least 0, not -1"]),
        (a_document({"usd_per_mtok": PRICES | {"cache_read": 1}}), ["look whether two of them are"]),
        (a_document({"fallback": "opus"}), ['tiers.haiku.fallback: "opus" is not among the tiers']),
        (a_document({"fallback": "haiku"}), ['tiers.haiku.fallback: leads back to "haiku"']),
        (
            a_document({"fallback": "sonnet"}, sonnet=a_tier(model="claude-sonnet-5-5", usd_per_mtok=DEAR)),
            ['tiers.haiku.fallback: "sonnet" costs more than haiku; fall back to a cheaper tier'],
        ),
        (
            a_document({"fallback": "sonnet"}, sonnet=a_tier(fallback="haiku")),
            ['tiers.haiku.fallback: leads back to "haiku"', 'tiers.sonnet.fallback: leads back to "sonnet"'],
        ),
    ],
)  # fmt: skip
def test_every_fault_names_its_place_and_what_to_do(
    directory: RegistryDirectory, document: Any, faults: list[str]
):
    directory.write_event()
    directory.write("models.json", document)

    found = directory.faults()

    assert len(faults) == len(found)
    for said, fault in zip(found, faults, strict=True):
        assert said.startswith("models.json: ")
        assert fault in said


def test_a_snapshot_that_says_so_and_a_model_that_is_allowed_are_in_order(directory: RegistryDirectory):
    directory.write_event()
    document = a_document({"model": SNAPSHOT, "snapshot": True}, opus=a_tier(model="gateway/opus-6"))
    directory.write("models.json", document | {"allow": ["gateway/opus-6"]})

    assert {"haiku", "opus"} == set(directory.load().tiers)


def test_the_shipped_tiers_fall_back_from_dear_to_cheap_and_have_budgets():
    tiers = Registry.load(ROOT / "registry").tiers

    assert {"haiku": None, "sonnet": "haiku", "opus": "sonnet"} == {
        name: tier.fallback for name, tier in tiers.items()
    }
    assert all(tier.daily_budget_nano_usd > 0 for tier in tiers.values())


def test_every_allowed_id_is_one_that_the_sdk_knows_and_none_is_at_its_end():
    from anthropic.resources.messages.messages import DEPRECATED_MODELS
    from anthropic.types.model import Model

    known = {name for part in typing.get_args(Model) for name in typing.get_args(part)}
    assert set(ALLOWED) <= known
    assert set(ALLOWED).isdisjoint(DEPRECATED_MODELS)


def test_the_schema_file_is_what_the_models_generate_and_the_shipped_file_fits():
    written = (ROOT / "registry" / "models.schema.json").read_text(encoding="utf-8")
    assert models_schema() == written, "run `python tools/registry_schema.py`"
    document = json.loads((ROOT / "registry" / "models.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(json.loads(written)).validate(document)
    assert "models.schema.json" == document["$schema"]
