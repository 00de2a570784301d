"""Queue.dead, revive and purge: what failed alike comes back, or goes, together; the rest stays."""

from __future__ import annotations

import pytest

from joelclaw_tasks.errors import InvalidFilter, UnknownJob, UnknownTarget, WrongState
from joelclaw_tasks.steering.queue import Queue
from tests.steering.conftest import job


@pytest.fixture
def failed(queue: Queue) -> dict[str, str]:
    """Three jobs of one failure and one of another: the signature of each kind."""
    queue.store.admit([job(id) for id in ("a", "b", "c", "other")])
    for one in queue.store.claim(["notes"], 4, "w").jobs:
        kind = "OSError: it is away" if one.tag.startswith("other") else "ValueError: no number"
        queue.store.discard(one.tag, kind)
    return {"ValueError" if each["count"] == 3 else "OSError": each["signature"] for each in queue.dead()}


def states(queue: Queue) -> dict[str, str]:
    return {id: queue.inspect(id)["state"] for id in ("a", "b", "c", "other")}


def test_a_sample_comes_back_first_and_then_the_rest_of_its_group(queue: Queue, failed: dict[str, str]):
    beginning = failed["ValueError"][:-2]

    first = queue.revive(signature=beginning, sample=1, reason="fixed")
    assert (1, 1, "available") == (first.matched, first.changed, states(queue)["a"])
    rest = queue.revive(signature=beginning)

    assert (2, 2) == (rest.matched, rest.changed)
    assert {"a": "available", "b": "available", "c": "available", "other": "discarded"} == states(queue)
    assert [failed["OSError"]] == [each["signature"] for each in queue.dead()]


def test_one_is_purged_by_its_id_and_a_group_by_its_signature(queue: Queue, failed: dict[str, str]):
    assert 1 == queue.purge("other").changed
    assert 3 == queue.purge(signature=failed["ValueError"]).changed
    assert [] == queue.dead()


def test_what_is_not_there_is_an_error_and_changes_nothing(queue: Queue, failed: dict[str, str]):
    queue.revive("a")
    before = states(queue)
    for error, call in (
        (WrongState, lambda: queue.revive("a")),
        (UnknownJob, lambda: queue.revive("nobody")),
        (UnknownTarget, lambda: queue.revive(signature="KeyError")),
        (UnknownTarget, lambda: queue.purge(signature="")),
        (InvalidFilter, queue.revive),
        (InvalidFilter, lambda: queue.purge("b", signature=failed["OSError"])),
    ):
        with pytest.raises(error):
            call()
    assert before == states(queue)
