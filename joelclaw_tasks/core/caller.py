"""Caller: runs the scripts on one Redis, loads those that it has forgotten, and names what went wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis

from joelclaw_tasks.core.keys import Keys
from joelclaw_tasks.core.scripts import load_source, script_names
from joelclaw_tasks.core.wire import Command, Wire
from joelclaw_tasks.errors import CoreReadOnly, CoreUnreachable


class _Made(dict[str, str]):
    """Made when first asked for: a command that only reads needs no script, and all of them take 50 ms."""

    def __init__(self, make: Callable[[str], str]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, name: str) -> str:
        self[name] = self._make(name)
        return self[name]


_SOURCES = _Made(load_source)
_SHAS = _Made(lambda name: hashlib.sha1(_SOURCES[name].encode()).hexdigest())  # noqa: S324

#: Redis may forget them again, or be another one, between loading and calling.
_LOADS = 3


class Caller:
    """Calls scripts by name. `client` answers bytes, and does not repeat commands by itself."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._wire = Wire(client)

    def load_scripts(self, *names: str) -> None:
        """Load what Redis does not know of these scripts, or of all. After SCRIPT FLUSH it happens by itself.

        Redis writes each load, up to 58 KB, into its append-only file and to its replicas, known or not.
        """
        wanted = names or script_names()
        known = self._ask(lambda: self.client.script_exists(*(_SHAS[name] for name in wanted)))
        self._load([name for name, is_known in zip(wanted, known, strict=True) if not is_known])

    def _load(self, names: Sequence[str]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.script_load(_SOURCES[name])
        self._ask(pipe.execute)

    def _call(self, name: str, args: list[Any], keys: Sequence[str] = (), *, repeatable: bool = False) -> Any:
        return self._run([self._command(name, args, keys)], repeatable=repeatable)[0]

    def _command(self, name: str, args: list[Any], keys: Sequence[str] = ()) -> Command:
        return (_SHAS[name], 1 + len(keys), self.keys.prefix, *keys, *args)

    def _run(self, commands: Sequence[Command], *, repeatable: bool = False) -> list[Any]:
        replies = self._ask(lambda: self._wire.run(commands, repeatable=repeatable))
        return self._known(commands, replies)

    def _known(self, commands: Sequence[Command], replies: list[Any]) -> list[Any]:
        """The replies, once scripts that Redis has forgotten are loaded and run. Raises the first error."""
        for reply in replies:
            if isinstance(reply, Exception):
                break
        else:
            return replies
        for _ in range(_LOADS):
            forgotten = [
                i for i, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)
            ]
            if not forgotten:
                break
            shas = {commands[i][0] for i in forgotten}
            self._load([name for name, sha in _SHAS.items() if sha in shas])
            again = self._ask(partial(self._wire.run, [commands[i] for i in forgotten]))
            for i, reply in zip(forgotten, again, strict=True):
                replies[i] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                if _REPLICA in str(reply):
                    self._wire.forget()  # it was the master once: a new connection finds the new one
                _refuse_read_only(reply)
                raise reply
        return replies

    def ask(self, call: Callable[[], Any]) -> Any:
        """The answer of a call that reads. Raises CoreUnreachable."""
        return self._ask(call)

    @staticmethod
    def _ask(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise CoreUnreachable(f"Redis does not answer: {type(error).__name__}") from error
        except redis.exceptions.ResponseError as error:
            _refuse_read_only(error)
            raise


# redis-py takes the first word off some errors, and a script of Redis 6.2 reports one inside a longer text.
_FULL = "command not allowed when used memory >"
_REPLICA = "read only replica"
_READ_ONLY = {
    _FULL: "its memory is full",
    "MISCONF": "it cannot save to its disk",
    _REPLICA: "it is a replica",
}


def is_full(error: Exception) -> bool:
    """Whether Redis has refused a command because its memory is full."""
    return _FULL in str(error)


def _refuse_read_only(error: Exception) -> None:
    for sign, reason in _READ_ONLY.items():
        if sign in str(error):
            raise CoreReadOnly(f"Redis answers, but writes nothing: {reason}") from error
