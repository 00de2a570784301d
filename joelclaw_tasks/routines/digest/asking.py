"""Asking a model for the sections of a digest. What it may say is bounded; what it names is not acted on."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import AfterValidator

from joelclaw_tasks.intelligence.decision import Question
from joelclaw_tasks.intelligence.guard import AnswerModel, data_block, prose
from joelclaw_tasks.intelligence.prompt import Prompt
from joelclaw_tasks.routines.digest.facts import Facts
from joelclaw_tasks.routines.digest.page import Sections

PURPOSE, TIER = "digest", "haiku"
BUDGET_MS = 60_000
_FACTS_MOST_BYTES = 12_000
_MOST_ITEMS = 7


def _few(items: list[str]) -> list[str]:
    return [item for item in items if item][:_MOST_ITEMS]


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


Item = Annotated[str, prose(300)]
Items = Annotated[list[Item], AfterValidator(_few)]


class DigestAnswer(AnswerModel):
    """What a model may say of a window."""

    summary: Annotated[str, prose(900), AfterValidator(_not_empty)]
    key_events: Items
    learnings: Items
    connections: Items
    open_questions: Items
    tomorrow: Items

    def to_sections(self) -> Sections:
        """The same as the sections of a page."""
        return Sections(**self.model_dump())


def question_of(facts: Facts) -> Question[DigestAnswer]:
    """The question for the digest of these facts."""
    return Question(
        purpose=PURPOSE,
        tier=TIER,
        prompt=_prompt().render(facts=data_block("facts", facts.to_wire(), most_bytes=_FACTS_MOST_BYTES)),
        answer=DigestAnswer,
        causes={"digest": 1},
    )


@cache
def _prompt() -> Prompt:
    return Prompt.load("digest", {})
