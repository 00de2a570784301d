"""Controls: the verbs by which people and the observer steer, and what they have set.

An act is one use of such a verb: `{id, verb, target, actor, reason, at, until?, value?, base?, previous?}`,
times in epoch milliseconds. Those in force are controls. The observer may not touch what a person has
set: then nothing changes, and HeldByPerson is raised or HELD_BY_PERSON answered for the job.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from joelclaw_tasks.core.caller import Caller
from joelclaw_tasks.core.job import LIMIT_GATE
from joelclaw_tasks.core.rate import RATE_GATE, Rate
from joelclaw_tasks.core.reply import read_word, read_words
from joelclaw_tasks.core.states import Word
from joelclaw_tasks.errors import CannotUndo, HeldByPerson, InvalidGate, UnknownControl

_PAUSE_GATE = re.compile("pause:(?:family|handler|queue)/[^\x00-\x1f\x7f]{1,1024}")
#: The most jobs that one call should move: about 20 ms in which Redis does nothing else.
AT_ONCE = 250

Act = dict[str, Any]


class Controls(Caller, ABC):
    """The steering verbs of the store."""

    @abstractmethod
    def _head(self) -> list[Any]: ...

    # -- gates --------------------------------------------------------------------------------

    def pause(self, gate: str, *, actor: str, reason: str, ttl_ms: int | None = None) -> dict[str, Any]:
        """Shut a gate, for `ttl_ms` or (None, 0) until resumed; answers the record. Last writer wins.

        Raises InvalidGate and HeldByPerson.
        """
        _check_pause(gate)
        args = [*self._head(), gate, _ttl(ttl_ms), text(actor, 200), text(reason)]
        word, record, control = self._call("pause", args)
        _refuse_held(word, control)
        return dict(json.loads(record))

    def resume(self, gate: str, *, actor: str, reason: str = "") -> dict[str, Any] | None:
        """Open a paused gate; answers the record that it had, or None when it was not paused.

        Raises InvalidGate and HeldByPerson.
        """
        _check_pause(gate)
        word, record, control = self._call("resume", [*self._head(), gate, text(actor, 200), text(reason)])
        _refuse_held(word, control)
        return dict(json.loads(record)) if read_word(word) is Word.RESUMED else None

    def limit(
        self, limits: dict[str, int | None], *, actor: str, reason: str, ttl_ms: int | None = None
    ) -> int:
        """Set how many jobs may pass each gate at once (None: any number); answers how many changed.

        What code sets (actor `registry` or `registry:<app>`) is the base, and what it does not name any more
        goes; what others set is over it for `ttl_ms`, or until undone. Raises InvalidGate and HeldByPerson;
        then none is set.
        """
        for gate, most in limits.items():
            if not LIMIT_GATE.fullmatch(gate):
                raise InvalidGate(f"only limit:<name> has a limit, not {gate!r:.80}")
            if most is not None and (type(most) is not int or most < 0):
                raise InvalidGate(f"the limit of {gate} must be a whole number or None, not {most!r:.80}")
        pairs = [part for gate, most in limits.items() for part in (gate, "" if most is None else most)]
        return self._set_bounds("limit", pairs, actor, reason, ttl_ms)

    def rate(
        self, rates: dict[str, Rate | None], *, actor: str, reason: str, ttl_ms: int | None = None
    ) -> int:
        """Set how many jobs may start in a time at each gate (None: any number); answers how many changed.

        As `limit` does it. Raises InvalidGate and HeldByPerson; then none is set.
        """
        for gate in rates:
            if not RATE_GATE.fullmatch(gate):
                raise InvalidGate(f"only rate:<name> has a rate, not {gate!r:.80}")
        pairs = [part for gate, rate in rates.items() for part in (gate, rate.encode() if rate else "")]
        return self._set_bounds("rate", pairs, actor, reason, ttl_ms)

    def _set_bounds(
        self, verb: str, pairs: Sequence[str | int], actor: str, reason: str, ttl_ms: int | None
    ) -> int:
        if not pairs and not actor.startswith("registry"):
            return 0
        args = [*self._head(), text(actor, 200), text(reason), _ttl(ttl_ms), *pairs]
        word, changed, control = self._call(verb, args)
        _refuse_held(word, control)
        return int(changed)

    def drain(
        self,
        gate: str,
        *,
        actor: str,
        reason: str,
        ttl_ms: int | None = None,
        act: str = "",
        job: str = "",
        lanes: Sequence[str] = (),
    ) -> Act:
        """Let what waits now behind a pause gate's name pass its pauses and rates; its limits hold.

        With `job` only that one passes. `lanes` (at most 1,000) that are parked look at their gates again.
        Name `act` to send more of them.
        Answers the control. Raises InvalidGate and HeldByPerson.
        """
        _check_pause(gate)
        args = [*self._head(), gate, _ttl(ttl_ms), text(actor, 200), text(reason), act, job, *lanes]
        word, control = self._call("drain", args)
        _refuse_held(word, control)
        return dict(json.loads(control)) if control else {}

    # -- jobs ---------------------------------------------------------------------------------

    def priority(
        self,
        ids: Sequence[str],
        slack_ms: int,
        level: int,
        *,
        actor: str,
        reason: str,
        target: str,
        ttl_ms: int | None = None,
        act: str = "",
    ) -> tuple[str, list[Word]]:
        """Another slack for waiting jobs, which stands for priority `level` (0..3); their ranks move with it.

        With `ttl_ms` and the target `family/<name>`, jobs of the family admitted until then get it too.
        Answers the act and PRIORITIZED, UNCHANGED, MISSING, WRONG_STATE or HELD_BY_PERSON for each id.
        """
        extra = [slack_ms, level]
        return self._bulk("priority", ids, extra, actor, reason, target=target, ttl_ms=ttl_ms, act=act)

    def stage(
        self, ids: Sequence[str], *, actor: str, reason: str, target: str, act: str = ""
    ) -> tuple[str, list[Word]]:
        """Scheduled or retryable -> available, before its time. STAGED or another word for each id."""
        return self._bulk("stage", ids, [], actor, reason, target=target, act=act)

    def shed(
        self,
        ids: Sequence[str],
        *,
        actor: str,
        reason: str,
        target: str,
        ttl_ms: int | None = None,
        act: str = "",
    ) -> tuple[str, list[Word]]:
        """Waiting -> held, in the parking lot of this act, for `ttl_ms` or until brought back.

        SHED or another word for each id.
        """
        return self._bulk("shed", ids, [], actor, reason, target=target, ttl_ms=ttl_ms, act=act)

    def unshed(
        self, ids: Sequence[str], *, actor: str, reason: str, target: str, act: str = ""
    ) -> tuple[str, list[Word]]:
        """Held -> what it was before it was shed, with its old rank. UNSHED or another word for each id."""
        return self._bulk("unshed", ids, [], actor, reason, target=target, act=act)

    def cancel_for_undo(
        self, ids: Sequence[str], *, actor: str, reason: str, target: str, act: str = ""
    ) -> tuple[str, list[Word]]:
        """`cancel` that can be undone for an hour; without a `target` it cannot. Answers the act too.

        A job with rules (dedup, singleton, batch, ...) has let go of what it held, and does not come back.
        """
        args = [*self._head(), text(actor, 200), text(reason), text(target), act, *ids]
        made, words = self._call("cancel", args)
        return made.decode(), read_words(words)

    def _bulk(
        self,
        verb: str,
        ids: Sequence[str],
        extra: list[int],
        actor: str,
        reason: str,
        *,
        target: str,
        ttl_ms: int | None = None,
        act: str = "",
    ) -> tuple[str, list[Word]]:
        head = [*self._head(), text(actor, 200), text(reason), text(target), _ttl(ttl_ms), act]
        made, words = self._call(verb, [*head, *extra, *ids])
        return made.decode(), read_words(words)

    def reconcile(self, *, actor: str, reason: str, target: str) -> str:
        """Note that what Redis has lost is about to be mended, before it is; answers the act."""
        args = [*self._head(), text(actor, 200), text(reason), text(target)]
        return str(self._call("reconcile", args).decode())

    # -- what was done ------------------------------------------------------------------------

    def undo(self, act: str, *, actor: str, reason: str = "") -> tuple[Act, int, int]:
        """Take one act back: answers it, how many jobs went back, and how many are left for another call.

        Raises UnknownControl, CannotUndo and HeldByPerson.
        """
        word, record, went_back, left = self._call(
            "undo", [*self._head(), text(act), text(actor, 200), text(reason)]
        )
        word = read_word(word)
        if word is Word.MISSING:
            raise UnknownControl(f"no act has the id {act!r:.80}; the newest 1,000 are known")
        _refuse_held(word, record)
        done = dict(json.loads(record))
        if word is not Word.UNDONE:
            why = (
                "a later act on the same target is in force"
                if word is Word.SUPERSEDED
                else "nothing of it is left to undo"
            )
            raise CannotUndo(f"{act} ({done['verb']} {done['target']}) cannot be undone: {why}")
        return done, int(went_back), int(left)

    def has_touched(self, act: str) -> bool:
        """Whether there are jobs that undoing this act would look at."""
        return bool(self._ask(lambda: self.client.exists(self.keys.touched(act))))

    def controls(self) -> list[Act]:
        """Every control in force, oldest first."""
        found = self._ask(lambda: self.client.hvals(self.keys.controls))
        return sorted(map(json.loads, found), key=_number)

    def acts(self) -> list[Act]:
        """The newest acts, at most 1,000, oldest first, those that were undone and are over included."""
        found = self._ask(lambda: self.client.hgetall(self.keys.acts))
        return sorted((json.loads(act) for name, act in found.items() if name != b"last"), key=_number)


def text(given: str, most: int = 1_000) -> str:
    """Text of people and programs, cut to a bearable length; what is no character is written as its code."""
    return given[:most].encode(errors="backslashreplace").decode()


def _number(act: Act) -> int:
    return int(str(act["id"])[1:])


def _ttl(ttl_ms: object) -> int:
    ttl_ms = 0 if ttl_ms is None else ttl_ms
    if type(ttl_ms) is not int or ttl_ms < 0:
        raise InvalidGate(f"ttl_ms of a control must be a whole number, not {ttl_ms!r:.80}")
    return ttl_ms


def _check_pause(gate: str) -> None:
    if not _PAUSE_GATE.fullmatch(gate) or gate != text(gate, len(gate)):
        raise InvalidGate(
            f"only pause:family/, pause:handler/ and pause:queue/<name> pause, not {gate!r:.80}"
        )


def _refuse_held(word: bytes | Word, control: bytes) -> None:
    if word in (Word.HELD_BY_PERSON, Word.HELD_BY_PERSON.encode()):
        held = json.loads(control)
        raise HeldByPerson(
            f"{held['verb']} {held['target']} was set by {held['actor']}: only a person may change it"
        )
