"""Every error that this package raises on purpose.

JoelclawError
├── SettingsError          a setting is missing, unknown or out of range
├── RegistryError          the registry files do not validate (carries every fault)
├── EventRefused           an event was not accepted; nothing was queued
│   ├── UnknownEvent
│   ├── InvalidEvent
│   └── PayloadTooLarge
├── HandlerError           what a handler may raise on purpose
│   ├── FetchFailed        a server did not give what was asked for; worth a retry
│   │   └── RateLimited    it wants fewer requests, and may say from when on
│   ├── RestateAway        Restate does not answer, or cannot take work now; worth a retry
│   ├── PermanentFailure   retrying cannot help: to the dead letter at once
│   │   ├── RestateRefused   Restate does not take what it was asked for
│   │   ├── RestateFailed    it ran there, and failed for good
│   │   └── RestateLate      it has not ended there before the deadline of its call
│   ├── BatchFailed        some elements of a batch failed; the others are done
│   └── ElementFailed      one of them, for a reason given as text
├── InvalidControls        the `jc` of a Celery task or call cannot be meant; nothing was queued
├── InvalidJob             a job cannot be admitted as it is; nothing was queued
├── InvalidGate            no gate can have this name, limit or ttl; nothing was changed
├── InvalidFilter          a --where cannot be read; nothing was changed
├── InvalidTtl             a ttl is unreadable or out of bounds; nothing was changed
├── InvalidScore           a priority is neither P0..P3 nor 0..100; nothing was changed
├── UnknownTarget          no job, event, family, handler, queue or gate has that name
├── UnknownControl         no act of steering has that id
├── UnknownPass            no pass and no act of the observer has that id
├── UnknownDiagnosis       no diagnosis has that id
├── NotPaused              the gate is not paused: nothing to resume
├── CannotUndo             the act was undone, is over, or a later one is in force
├── HeldByPerson           the observer may not change what a person has set
├── CoreUnreachable        Redis does not answer
│   ├── CoreReadOnly       Redis answers, but writes nothing: memory or disk are full
│   └── SpoolFailed        neither Redis nor the spool took it
├── UnsafeRedis            Redis answers, but its policy may lose work
├── NewerFormat            a newer version wrote what this one cannot read
├── UnknownHandler         no registry entry has a handler of that name
├── UnknownJob             no job has that id
├── NothingMeasured        a forecast has no run times to draw from
├── WrongState             the job exists, but the verb does not apply to its state
├── PromptError            a prompt file cannot be used
├── FleetError             the fleet cannot start, or is not running
├── WatchRefused           a folder cannot be watched
├── WatchRunning           a watcher of this home runs already
└── ScriptDrift            a Lua script answered a word that Python does not know

Each carries a stable `code` for programs and a `fix` for people. The message of an error
never contains a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class JoelclawError(Exception):
    """Base of all errors of joelclaw_tasks."""

    code = "JOELCLAW_ERROR"
    fix = "See the message; `joelclaw doctor` checks the whole environment."

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        if fix is not None:
            self.fix = fix


class SettingsError(JoelclawError):
    """A setting is missing, unknown or out of range."""

    code = "SETTINGS_INVALID"
    fix = "Correct the named environment variable and start again."


class RegistryError(JoelclawError):
    """The registry files do not validate; `faults` lists every fault, file and field named."""

    code = "REGISTRY_INVALID"
    fix = "Correct the named files, then run `joelclaw registry check`."

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        listing = "\n".join(f"  - {fault}" for fault in self.faults)
        super().__init__(f"the registry has {count} fault{'s' * (count != 1)}:\n{listing}")


class EventRefused(JoelclawError):
    """An event was not accepted; nothing was queued. `position` is its index among those emitted together."""

    code = "EVENT_REFUSED"
    position = 0


class UnknownEvent(EventRefused):
    """No registry entry has this event name."""

    code = "EVENT_UNKNOWN"
    fix = "`joelclaw registry list` prints the known events."


class InvalidEvent(EventRefused):
    """The event's data, id or priority is not acceptable."""

    code = "EVENT_INVALID"
    fix = "Send a JSON object as data, and a priority of P0, P1, P2 or P3."


class PayloadTooLarge(EventRefused):
    """The event is larger than the cap."""

    code = "PAYLOAD_TOO_LARGE"
    fix = "Store the body elsewhere and send a reference, or raise JOELCLAW_PAYLOAD_MAX_BYTES."


class HandlerError(JoelclawError):
    """What a handler may raise on purpose."""

    code = "HANDLER_ERROR"


class FetchFailed(HandlerError):
    """A server did not give what was asked for; worth a retry."""

    code = "FETCH_FAILED"
    fix = "Check the address and the server; the job is retried by itself."


class RateLimited(FetchFailed):
    """A server wants fewer requests; the retry waits as long as it asks (`retry_after_s`, 0: unsaid)."""

    code = "RATE_LIMITED"
    fix = "Give the handler a rate in the registry; the job is retried by itself."

    def __init__(self, message: str, retry_after_s: float = 0) -> None:
        self.retry_after_s = max(0.0, retry_after_s)
        said = f" and asks to wait {math.ceil(self.retry_after_s)} s" if self.retry_after_s else ""
        super().__init__(message + said)
        self._message = message

    def __reduce__(self) -> tuple[type[RateLimited], tuple[str, float]]:
        """Exceptions are made again from their arguments when they leave a process."""
        return type(self), (self._message, self.retry_after_s)


class PermanentFailure(HandlerError):
    """Retrying cannot help: the job goes to the dead letter at once."""

    code = "HANDLER_PERMANENT_FAILURE"


class RestateAway(HandlerError):
    """Restate does not answer, or cannot take work now; worth a retry under the same key."""

    code = "RESTATE_AWAY"
    fix = "Check that Restate runs (`joelclaw doctor`) and RESTATE_INGRESS_URL; the job is retried by itself."


class RestateRefused(PermanentFailure):
    """Restate does not take what it was asked for, and never will."""

    code = "RESTATE_REFUSED"
    fix = "Register the service with Restate or correct the handler in the registry, then revive the job."


class RestateFailed(PermanentFailure):
    """It ran in Restate, and failed for good; the text is the service's own."""

    code = "RESTATE_FAILED"
    fix = "Correct the cause; Restate answers the same under this key until it forgets it (docs/restate.md)."


class RestateLate(PermanentFailure):
    """It has not ended in Restate before the deadline of its call, and goes on there."""

    code = "RESTATE_LATE"
    fix = "Look at the invocation in Restate; revive the job to look for its output again."


class BatchFailed(HandlerError):
    """Some elements of a batch failed, the others are done: `failures` maps positions to what went wrong.

    Each of the named elements is tried again alone, by the retry policy, or goes to the dead letter alone
    (with a PermanentFailure at once).
    """

    code = "HANDLER_BATCH_FAILED"

    def __init__(self, failures: Mapping[int, BaseException | str]) -> None:
        self.failures = dict(failures)
        places = ", ".join(str(position) for position in sorted(self.failures))
        super().__init__(f"{len(self.failures)} of the batch failed: {places}")

    def __reduce__(self) -> tuple[type[BatchFailed], tuple[dict[int, BaseException | str]]]:
        """Exceptions are made again from their text when they leave a process; this one has more."""
        return type(self), (self.failures,)


class ElementFailed(HandlerError):
    """One element of a batch failed, for a reason that its handler gave as text."""

    code = "HANDLER_ELEMENT_FAILED"


class InvalidControls(JoelclawError, ValueError):
    """The `jc` of a Celery task, or of one call of it, cannot be meant; nothing was queued."""

    code = "CONTROLS_INVALID"
    fix = "Correct the named controls; docs/controls.md shows each of them."


class InvalidJob(JoelclawError, ValueError):
    """A job cannot be admitted as it is; nothing was queued."""

    code = "JOB_INVALID"
    fix = "Names are non-empty text without control characters; numbers are whole and not negative."


class InvalidGate(JoelclawError, ValueError):
    """No gate can have this name, limit or ttl; nothing was changed."""

    code = "GATE_INVALID"
    fix = "Write pause:family/<event>, pause:handler/<handler>, pause:queue/<queue> or limit:<name>."


class InvalidFilter(JoelclawError, ValueError):
    """A filter of jobs cannot be read; nothing was changed."""

    code = "QUEUE_FILTER_INVALID"
    fix = "Write terms such as `family=content/updated age>10m data.path~notes/*` (see docs/cli.md)."


class InvalidTtl(JoelclawError, ValueError):
    """A ttl is unreadable or out of bounds; nothing was changed."""

    code = "QUEUE_CONTROL_INVALID_TTL"
    fix = "Give a ttl from 60s to 1d, such as 15m."


class InvalidScore(JoelclawError, ValueError):
    """A priority is neither P0..P3 nor a score of 0..100; nothing was changed."""

    code = "QUEUE_PRIORITY_INVALID"
    fix = "Give P0, P1, P2 or P3, or a score from 0 (can wait) to 100 (at once)."


class UnknownTarget(JoelclawError):
    """No job, event, family, handler, queue or gate has that name. `details` may name the nearest."""

    code = "QUEUE_TARGET_UNKNOWN"
    fix = "`joelclaw queue list` prints ids, `joelclaw queue depth` families and gates."

    def __init__(
        self, message: str, *, code: str | None = None, fix: str | None = None, **details: object
    ) -> None:
        super().__init__(message, fix=fix)
        self.code = code or self.code
        self.details = details


class UnknownControl(JoelclawError):
    """No act of steering has that id, or there is none to undo."""

    code = "QUEUE_CONTROL_UNKNOWN"
    fix = "`joelclaw queue depth` shows what is in force; every act answered its id."


class UnknownPass(JoelclawError):
    """No pass and no act of the observer has that id."""

    code = "OBSERVER_PASS_UNKNOWN"
    fix = "`joelclaw observer history` prints the ids of passes and of their acts."


class UnknownDiagnosis(JoelclawError):
    """No diagnosis has that id, or it is no longer kept."""

    code = "DIAGNOSIS_UNKNOWN"
    fix = "`joelclaw diagnosis list` prints the ids of those that are kept."


class NotPaused(JoelclawError):
    """The gate is not paused: there is nothing to resume."""

    code = "QUEUE_FAMILY_NOT_PAUSED"
    fix = "`joelclaw queue depth` shows what is paused."


class CannotUndo(JoelclawError):
    """The act was undone already, is over, or a later act on the same target is in force."""

    code = "QUEUE_CONTROL_OVER"
    fix = "Undo the later act first, or set what you want anew."


class HeldByPerson(JoelclawError):
    """The observer may not change what a person has set."""

    code = "HELD_BY_PERSON"
    fix = "Wait until it ends, or let a person undo it."


class CoreUnreachable(JoelclawError):
    """Redis does not answer."""

    code = "REDIS_UNREACHABLE"
    fix = "Start the fleet with `joelclaw up`, or point REDIS_URL at a running Redis."


class CoreReadOnly(CoreUnreachable):
    """Redis answers, but writes nothing: its memory or its disk is full, or it is a replica."""

    code = "REDIS_READ_ONLY"
    fix = "Let the workers drain the queue, or give Redis more memory (`maxmemory`) or disk; then try again."


class SpoolFailed(CoreUnreachable):
    """The spool could not be written or replayed; what it held, it still holds."""

    code = "SPOOL_FAILED"
    fix = "Give the spool a plain file on a disk that has room (JOELCLAW_SPOOL), then send the events again."


class UnsafeRedis(JoelclawError):
    """Redis answers, but its configuration may lose accepted work."""

    code = "REDIS_UNSAFE"
    fix = "Set `maxmemory-policy noeviction` on the Redis server."


class NewerFormat(JoelclawError):
    """A newer version of joelclaw_tasks has written what this one cannot read."""

    code = "FORMAT_NEWER"
    fix = "Run the newer version here too, or drain its queues before you go back to this one."


class UnknownHandler(JoelclawError):
    """No registry entry has a handler of that name."""

    code = "HANDLER_UNKNOWN"
    fix = "`joelclaw registry list` prints the known handlers."


class UnknownJob(JoelclawError):
    """No job has that id."""

    code = "QUEUE_MESSAGE_MISSING"
    fix = "`joelclaw queue list` prints the ids of waiting jobs."


class NothingMeasured(JoelclawError):
    """A forecast needs to know how long jobs take, and none has ended lately."""

    code = "QUEUE_NOTHING_MEASURED"
    fix = "Let workers finish some jobs first; `joelclaw queue stats` shows what was measured."


class WrongState(JoelclawError):
    """The job exists, but the verb does not apply to its state."""

    code = "JOB_WRONG_STATE"
    fix = "`joelclaw queue inspect <id>` prints the state of the job."


class PromptError(JoelclawError):
    """A prompt file cannot be used, or is given other variables than it has."""

    code = "PROMPT_INVALID"
    fix = "Correct the named file; docs/models.md shows what one looks like."


class FleetError(JoelclawError):
    """The fleet cannot start, or is not running."""

    code = "FLEET_ERROR"
    fix = "`joelclaw doctor` names what is missing."


class WatchRefused(JoelclawError):
    """A folder cannot be watched: it is missing, or the workers would not validate its files."""

    code = "WATCH_REFUSED"
    fix = "Name a folder that exists, in content/ of the data directory or in JOELCLAW_WATCH_DIRS."


class WatchRunning(JoelclawError):
    """A watcher of this home runs already; two would tell everything twice."""

    code = "WATCH_RUNNING"
    fix = "Stop it, or add the folder to JOELCLAW_WATCH_DIRS and start the fleet again."


class ScriptDrift(JoelclawError):
    """A Lua script answered a word that Python does not know."""

    code = "SCRIPT_DRIFT"
    fix = "Lua and Python come from different versions: reinstall joelclaw_tasks."
