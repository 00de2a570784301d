"""Arguments: how those of a call are shown, by Flower, events, `inspect` and logs: without secrets.

Celery writes them into each message, as `argsrepr` and `kwargsrepr`, and shows them everywhere from there.
An argument is a secret when it looks like one, or when the parameter that takes it is named like one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

from celery import Celery, Task
from celery.utils.saferepr import saferepr

from joelclaw_tasks.core.masking import masked, secret_places, secrets_of_call
from joelclaw_tasks.core.redaction import (
    MASK,
    SHORTEST_SECRET,
    may_hold_secret,
    redacted,
    secrets_of,
)

#: As in celery.app.amqp.
_MOST = 1024
#: Arguments of most calls. Celery stops at `_MOST` characters, `repr` shows all of a million.
_FEW = 16
#: Elements whose `repr` is what Celery shows of them.
_PLAIN = frozenset({int, float, bool, type(None), str})
#: Characters that Celery shows in another way than `repr`, or that make it choose other quotes.
_NOT_PLAIN = frozenset("'\\")


@cache
def known_secrets() -> frozenset[str]:
    """Those of the environment of this process, as it was when somebody first asked."""
    return frozenset(secrets_of())


@cache
def _starts_of_known() -> frozenset[str]:
    return frozenset(secret[:SHORTEST_SECRET] for secret in known_secrets())  # the rest may be cut off


def shown_plainly(values: Any) -> str | None:
    """How Celery shows the arguments of a call, for a few numbers and short texts; None for all others.

    Most calls have no others, and Celery's own way takes several times as long.
    """
    if not values:
        return repr(values) if type(values) in (tuple, list, dict) else None
    if type(values) not in (tuple, list) or len(values) > _FEW or not _PLAIN.issuperset(map(type, values)):
        return None
    texts = [value for value in values if type(value) is str]
    if sum(map(len, texts)) >= _MOST:
        return None
    text = "".join(texts)
    if not text.isprintable() or _NOT_PLAIN.intersection(text):
        return None
    shown = repr(values)
    return shown if len(shown) < _MOST else None


def mask_headers(app: Celery, task: Task | None, headers: dict[str, Any], args: Any, kwargs: Any) -> bool:
    """Mask `argsrepr` and `kwargsrepr` of a message in place; answers whether they changed."""
    args_shown, kwargs_shown = headers.get("argsrepr"), headers.get("kwargsrepr")
    places = secret_places(task) if args else ()
    if not places and not _is_suspect(args_shown) and not _is_suspect(kwargs_shown):
        return False
    maxlevels = app.conf.task_repr_maxlevels
    args = tuple(args) if isinstance(args, list) else args  # as Celery shows them
    hidden = known_secrets() | secrets_of_call(task, args, kwargs)
    headers["argsrepr"] = _shown(args_shown, args, places, hidden, maxlevels)
    headers["kwargsrepr"] = _shown(kwargs_shown, kwargs, (), hidden, maxlevels)
    return bool((args_shown, kwargs_shown) != (headers["argsrepr"], headers["kwargsrepr"]))


def shown_arguments(task: Task | None, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments for others to see, such as those of `inspect active`: as they are, but for secrets."""
    secrets = known_secrets()
    return _without(args, secret_places(task), secrets), masked(kwargs, secrets)


def _is_suspect(text: object) -> bool:
    if not isinstance(text, str):
        return False
    if "'" not in text and '"' not in text:
        return False  # numbers
    return may_hold_secret(text) or any(start in text for start in _starts_of_known())


def _shown(
    text: object, values: Any, places: Sequence[int], secrets: Collection[str], maxlevels: int
) -> object:
    if not isinstance(text, str):
        return text
    if text != saferepr(values, _MOST, maxlevels=maxlevels):
        return redacted(text, secrets)  # the caller says how they are shown
    return saferepr(_without(values, places, secrets), _MOST, maxlevels=maxlevels)


def _without(values: Any, places: Sequence[int], secrets: Collection[str]) -> Any:
    if places and isinstance(values, list | tuple):
        hidden = [MASK if place in places else value for place, value in enumerate(values)]
        values = hidden if isinstance(values, list) else tuple(hidden)
    return masked(values, secrets)
