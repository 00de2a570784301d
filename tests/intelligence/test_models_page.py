"""docs/models.md names every reason, every fault and every field of a tier, and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from joelclaw_tasks.intelligence.local.act import Fault
from joelclaw_tasks.intelligence.prompt import Prompt
from joelclaw_tasks.intelligence.reason import Reason
from joelclaw_tasks.registry_tiers import TierModel, read_tiers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text()


def first_cells(heading: str) -> set[str]:
    """The words in code of the first column of the table with that heading."""
    _, _, rest = PAGE.partition(f"| {heading} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_reasons():
    assert {reason.value for reason in Reason} == first_cells("reason")


def test_the_faults():
    assert {fault.value for fault in Fault} == first_cells("fault")


def test_the_fields_of_a_tier():
    own = {"tiers.haiku", ".sonnet", ".opus", "allow", "description"}

    assert set(TierModel.model_fields) | own == first_cells("field") | {"description"}


def test_the_examples():
    _, faults = read_tiers(json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0]))
    [prompt] = re.findall(r"```markdown\n(.*?)```", PAGE, re.DOTALL)

    assert [] == faults
    assert 3 == Prompt(prompt, {"route_checks": ["confirm"]}, source="docs/models.md").version
