"""ModelOperator: a model reads the snapshot and proposes. Without an answer the fixed rules stand in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from joelclaw_tasks.intelligence.actions import KINDS, Action
from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback, Question
from joelclaw_tasks.intelligence.guard import AnswerModel, data_block, prose
from joelclaw_tasks.intelligence.policy import Limits
from joelclaw_tasks.intelligence.prompt import Prompt
from joelclaw_tasks.intelligence.snapshot import Snapshot

PURPOSE, TIER = "observe", "sonnet"
BUDGET_MS = 45_000
#: What the model is shown of a snapshot, in bytes of JSON: about 15,000 tokens.
_SNAPSHOT_MOST_BYTES = 40_000


class Proposed(AnswerModel):
    """What the model says: how things are, and what it would do."""

    summary: Annotated[str, prose(500)]
    actions: list[Action]


class NoAnswer(Exception):
    """The model has no answer; the text is the reason, of the closed list of `Reason`."""


class ModelOperator:
    """Proposes what a model of the tier says."""

    name = TIER

    def __init__(self, client: ModelClient, *, tier: str = TIER, budget_ms: float = BUDGET_MS) -> None:
        self._client = client
        self._tier = tier
        self._budget_ms = budget_ms
        self._prompt = Prompt.load("observer", {"kinds": KINDS})

    def propose(self, snapshot: Snapshot) -> Sequence[Action]:
        """What the model would do now. Raises NoAnswer."""
        question = Question(
            purpose=PURPOSE,
            tier=self._tier,
            prompt=self._prompt.render(
                most_actions=str(Limits().most_actions),
                snapshot=data_block("snapshot", _shown(snapshot), most_bytes=_SNAPSHOT_MOST_BYTES),
            ),
            answer=Proposed,
            causes={"observer": 1},
        )
        decision = self._client.decide(question, budget_ms=self._budget_ms)
        if isinstance(decision, Fallback):
            raise NoAnswer(decision.reason.value)
        return decision.value.actions


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot without what is empty, families with most work first: the end may be cut off."""
    shown = snapshot.model_dump(mode="json", exclude_defaults=True)
    families = shown.pop("families", [])
    families.sort(key=lambda each: (-each.get("total", 0), -each.get("executing", 0), each["family"]))
    return {"findings": snapshot.findings.model_dump(), **shown, "families": families}
