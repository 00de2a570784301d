"""Signing: producers sign what they admit, and workers that require it run nothing else.

A signature is an HMAC-SHA256 over the queue and the whole message as it is in Redis: id, task, arguments,
headers and properties, and with these what the message says of its family, handler, lane and gates. It is the
last member of the message, and says whether the call may run under the id of another one, as part of a
debounce or of a batch. Not covered is what may change while a job waits: its priority and its times in Redis,
and members named `retries` and `expires`, which `revive` sets back.
"""

from __future__ import annotations

import hmac
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.rules import Rules
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.settings import Settings

SHORTEST_KEY = 16
_FIRST = b',"jc_signature":"v1'
_LAST = b'"}'
_DIGITS = 64
#: How a call may become part of another job: not at all, by debounce, by batch.
ALONE, DEBOUNCED, BATCHED = b"-", b"d", b"b"
_TAIL = re.compile(re.escape(_FIRST) + rb"([-db]):([0-9a-f]{%d})" % _DIGITS + re.escape(_LAST))
_TAIL_SIZE = len(_FIRST) + len("-:") + _DIGITS + len(_LAST)
#: What core/lua/revive.lua writes anew. In JSON, text that looks like one of them has its quotes escaped.
_RETRIES = re.compile(rb'("retries"\s*:\s*)\d+')
_EXPIRES = re.compile(rb'("expires"\s*:\s*)"[^"]*"')
_NAMES = ("JOELCLAW_SIGNING_KEY", "JOELCLAW_SIGNING_KEY_FILE", "JOELCLAW_REQUIRE_SIGNED")


class Signing:
    """Signs with the first line of the file, or else with `key`, and accepts all of them."""

    def __init__(self, key: str | None, file: Path | None, *, required: bool) -> None:
        """Raises SettingsError for a key that is too short, a file without one, or no key at all."""
        self.required = required
        self._from_file = None if file is None else Credentials(None, file)
        self._fixed = Credentials(key)()
        for one in (*self._fixed, *(() if self._from_file is None else self._from_file())):
            if len(one) < SHORTEST_KEY:
                raise SettingsError(f"a signing key must have at least {SHORTEST_KEY} characters")
        if not self._keys():
            raise SettingsError(
                "there is no signing key",
                fix="Set JOELCLAW_SIGNING_KEY, or write one into JOELCLAW_SIGNING_KEY_FILE.",
            )

    def sign(self, job: Job) -> None:
        """Sign the payload of a job, once. Raises SettingsError when the file of keys has none by now."""
        payload = job.payload.encode() if isinstance(job.payload, str) else job.payload
        if _TAIL.fullmatch(payload[-_TAIL_SIZE:]):
            return  # it is sent again
        keys = self._keys()
        if not keys:
            raise SettingsError("the file of signing keys has none: nothing is sent unsigned")
        merge = _merge_of(job.rules)
        digest = _digest(keys[0], job.queue, merge, payload)
        signed = b"".join((payload[:-1], _FIRST, merge, b":", digest, _LAST))
        job.payload = signed.decode() if isinstance(job.payload, str) else signed

    def fault(self, queue: str, payload: bytes) -> str:
        """Why a worker of this queue must not run the message; an empty string for one that is signed."""
        tail = _TAIL.fullmatch(payload[-_TAIL_SIZE:])
        if tail is None:
            return "the message is not signed"
        message = payload[:-_TAIL_SIZE] + b"}"
        if self._fits(queue, message, *tail.groups()):
            return ""
        if self._from_file is not None:
            self._from_file.look()  # the producer may have heard of a new key a moment earlier
            if self._fits(queue, message, *tail.groups()):
                return ""
        return f"the signature does not fit: message, queue ({queue}) or key are not those that were signed"

    def _fits(self, queue: str, message: bytes, merge: bytes, given: bytes) -> bool:
        """Every key is tried, with no early exit: the time tells nobody which one is in use."""
        fits = False
        for key in self._keys():
            fits |= hmac.compare_digest(_digest(key, queue, merge, message), given)
        return fits

    def _keys(self) -> tuple[str, ...]:
        found = self._fixed if self._from_file is None else (*self._from_file(), *self._fixed)
        return tuple(key for key in found if len(key) >= SHORTEST_KEY)


def merge_of(payload: bytes) -> bytes:
    """ALONE, DEBOUNCED or BATCHED: what a message whose signature fits was signed for."""
    tail = _TAIL.fullmatch(payload[-_TAIL_SIZE:])
    return ALONE if tail is None else tail[1]


def _merge_of(rules: str) -> bytes:
    if not rules:
        return ALONE
    read = Rules.decode(rules)
    return DEBOUNCED if read.debounce else BATCHED if read.batch else ALONE


def _digest(key: str, queue: str, merge: bytes, message: bytes) -> bytes:
    covered = _EXPIRES.sub(rb"\1null", _RETRIES.sub(rb"\g<1>0", message))
    data = b"\0".join((b"joelclaw message 1", queue.encode(), merge, covered))
    return hmac.digest(key.encode("utf-8", "surrogateescape"), data, "sha256").hex().encode()


def signing_of(settings: Settings) -> Signing | None:
    """What the settings say, or None when nothing is signed. Raises SettingsError."""
    if settings.signing_key is None and settings.signing_key_file is None and not settings.require_signed:
        return None
    return _signing(settings.signing_key, settings.signing_key_file, settings.require_signed)


def signing_of_environment(env: Mapping[str, str] | None = None) -> Signing | None:
    """The same for whoever has no settings: an app of somebody else, with `install`. Raises SettingsError."""
    env = os.environ if env is None else env
    said = tuple((name, env[name]) for name in _NAMES if env.get(name))
    return _signing_said(said) if said else None


@cache
def _signing_said(said: tuple[tuple[str, str], ...]) -> Signing | None:
    return signing_of(Settings.load(dict(said)))


@cache
def _signing(key: str | None, file: Path | None, required: bool) -> Signing:  # as cached
    """One for the whole process, so that a file is looked at by one."""
    return Signing(key, file, required=required)
