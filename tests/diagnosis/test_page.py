"""docs/diagnosis.md names every cause and every kind of evidence, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from joelclaw_tasks.intelligence.diagnosis.answer import Cause
from joelclaw_tasks.intelligence.diagnosis.evidence import MOST_BYTES, MOST_EXHIBITS, Kind
from joelclaw_tasks.intelligence.diagnosis.subjects import SUSTAINED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "diagnosis.md").read_text()


def first_cells(heading: str) -> set[str]:
    """The words in code of the first column of the table with that heading."""
    rows = PAGE.partition(f"| {heading} |")[2].split("\n\n")[0].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_the_causes() -> None:
    assert {cause.value for cause in Cause} == first_cells("cause")


def test_the_kinds_of_evidence() -> None:
    assert {kind.value for kind in Kind} == first_cells("kind")


def test_the_bounds() -> None:
    assert f"At most {MOST_EXHIBITS} exhibits, {MOST_BYTES:,} bytes" in PAGE
    assert f"{SUSTAINED} failures or more within 2 hours" in PAGE
