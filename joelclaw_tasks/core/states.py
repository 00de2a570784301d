"""The state machine of a job: states, verbs and every legal move between them.

TRANSITIONS is the contract. Each verb is one Lua file, one method of `Store`, one word in the
transitions stream. The docs draw their chart from this table, and tests hold Lua and table together.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is in its life (Oban's words)."""

    SCHEDULED = "scheduled"  # waits for a clock
    HELD = "held"  # waits for a score, or in the parking lot for a person
    AVAILABLE = "available"  # in a lane: may start as soon as its gates are open
    EXECUTING = "executing"  # leased to a worker
    RETRYABLE = "retryable"  # failed or asked to run again later: waits for a clock
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"  # dead letter: kept, with its failure, until a person decides


class Verb(StrEnum):
    """What can be done to a job or to a gate."""

    ADMIT = "admit"
    STAGE = "stage"
    CLAIM = "claim"
    RENEW = "renew"
    COMPLETE = "complete"
    RETRY = "retry"
    RELEASE = "release"
    EXPIRE = "expire"
    DISCARD = "discard"
    CANCEL = "cancel"
    REVIVE = "revive"
    PURGE = "purge"
    PAUSE = "pause"
    RESUME = "resume"
    LIMIT = "limit"
    RATE = "rate"
    PRIORITY = "priority"
    SCORE = "score"
    SHED = "shed"
    UNSHED = "unshed"
    DRAIN = "drain"
    UNDO = "undo"
    RECONCILE = "reconcile"


class Word(StrEnum):
    """Every word that a script may answer. A word missing on either side fails a test."""

    ADMITTED = "ADMITTED"  # in its lane
    SCHEDULED = "SCHEDULED"  # waits for its time
    HELD = "HELD"  # waits for a score, for a short while
    DUPLICATE = "DUPLICATE"  # a job with this id is known: nothing changed
    EXPIRED = "EXPIRED"  # too late already: nothing was kept
    THROTTLED = "THROTTLED"  # not the first of its key within the window: nothing was kept
    SKIPPED = "SKIPPED"  # another job of its key waits or runs: nothing was kept
    DEBOUNCED = "DEBOUNCED"  # its data replaced that of a job that waits
    BATCHED = "BATCHED"  # it became an element of a batch
    REFUSED = "REFUSED"  # kept in the dead letter with a reason: it could never run
    SUCCEEDED = "SUCCEEDED"  # the running job goes on as this newer message when it ends
    LEASE_LOST = "LEASE_LOST"  # the tag no longer owns the job: nothing changed
    COMPLETED = "COMPLETED"
    RETRIED = "RETRIED"  # ended, and runs again as its successor
    RELEASED = "RELEASED"
    DISCARDED = "DISCARDED"
    CANCELLED = "CANCELLED"
    ASKED = "ASKED"  # it runs, and its worker is to stop it
    REVIVED = "REVIVED"
    PURGED = "PURGED"  # gone from the dead letter, message and failure
    MISSING = "MISSING"  # no job has this id
    WRONG_STATE = "WRONG_STATE"  # the verb does not apply: nothing changed
    PAUSED = "PAUSED"
    RESUMED = "RESUMED"
    NOT_PAUSED = "NOT_PAUSED"
    LIMITED = "LIMITED"
    RATED = "RATED"
    PRIORITIZED = "PRIORITIZED"
    UNCHANGED = "UNCHANGED"  # it has this priority already
    SCORED = "SCORED"  # available, with what its score stands for
    NOTED = "NOTED"  # the score came too late, or was not to change anything: it is in the stream
    STAGED = "STAGED"  # available before its time
    SHED = "SHED"
    UNSHED = "UNSHED"
    DRAINING = "DRAINING"
    UNDONE = "UNDONE"
    SUPERSEDED = "SUPERSEDED"  # a later act on the same target is in force: undo that one first
    OVER = "OVER"  # nothing of the act is left to undo
    HELD_BY_PERSON = "HELD_BY_PERSON"  # the observer may not touch what a person has set


#: States in which a job waits for something.
WAITING = frozenset({State.SCHEDULED, State.HELD, State.AVAILABLE, State.RETRYABLE})
#: States that a job leaves only by a person's decision, or never.
FINAL = frozenset({State.COMPLETED, State.CANCELLED, State.DISCARDED})

#: (from, verb, to). None: the job does not exist yet.
TRANSITIONS: tuple[tuple[State | None, Verb, State], ...] = (
    (None, Verb.ADMIT, State.AVAILABLE),
    (None, Verb.ADMIT, State.SCHEDULED),
    (None, Verb.ADMIT, State.HELD),
    (None, Verb.ADMIT, State.DISCARDED),
    (State.SCHEDULED, Verb.STAGE, State.AVAILABLE),
    (State.RETRYABLE, Verb.STAGE, State.AVAILABLE),
    (State.HELD, Verb.STAGE, State.AVAILABLE),
    (State.HELD, Verb.SCORE, State.AVAILABLE),
    (State.AVAILABLE, Verb.CLAIM, State.EXECUTING),
    (State.EXECUTING, Verb.RENEW, State.EXECUTING),
    (State.EXECUTING, Verb.COMPLETE, State.COMPLETED),
    (State.EXECUTING, Verb.RETRY, State.RETRYABLE),
    (State.EXECUTING, Verb.RETRY, State.AVAILABLE),
    (State.EXECUTING, Verb.RELEASE, State.AVAILABLE),
    (State.EXECUTING, Verb.EXPIRE, State.AVAILABLE),
    (State.EXECUTING, Verb.DISCARD, State.DISCARDED),
    (State.SCHEDULED, Verb.CANCEL, State.CANCELLED),
    (State.AVAILABLE, Verb.CANCEL, State.CANCELLED),
    (State.RETRYABLE, Verb.CANCEL, State.CANCELLED),
    (State.EXECUTING, Verb.CANCEL, State.EXECUTING),
    (State.EXECUTING, Verb.CANCEL, State.CANCELLED),
    (State.DISCARDED, Verb.REVIVE, State.AVAILABLE),
    (State.DISCARDED, Verb.PURGE, State.CANCELLED),
    (State.AVAILABLE, Verb.PRIORITY, State.AVAILABLE),
    (State.SCHEDULED, Verb.PRIORITY, State.SCHEDULED),
    (State.RETRYABLE, Verb.PRIORITY, State.RETRYABLE),
    (State.HELD, Verb.PRIORITY, State.HELD),
    (State.AVAILABLE, Verb.SHED, State.HELD),
    (State.SCHEDULED, Verb.SHED, State.HELD),
    (State.RETRYABLE, Verb.SHED, State.HELD),
    (State.HELD, Verb.UNSHED, State.AVAILABLE),
    (State.HELD, Verb.UNSHED, State.SCHEDULED),
    (State.HELD, Verb.UNSHED, State.RETRYABLE),
    (State.AVAILABLE, Verb.UNDO, State.AVAILABLE),
    (State.SCHEDULED, Verb.UNDO, State.SCHEDULED),
    (State.RETRYABLE, Verb.UNDO, State.RETRYABLE),
    (State.HELD, Verb.UNDO, State.HELD),
    (State.AVAILABLE, Verb.UNDO, State.SCHEDULED),
    (State.AVAILABLE, Verb.UNDO, State.RETRYABLE),
    (State.HELD, Verb.CANCEL, State.CANCELLED),
    (State.CANCELLED, Verb.UNDO, State.AVAILABLE),
    (State.CANCELLED, Verb.UNDO, State.SCHEDULED),
    (State.CANCELLED, Verb.UNDO, State.RETRYABLE),
)
