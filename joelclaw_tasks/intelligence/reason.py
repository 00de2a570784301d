"""Reason: why there is no answer of a model. The list is closed, so that every caller can tell them apart."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a question has no answer."""

    # Nobody was asked.
    DISABLED = "disabled"  # models are switched off, or the tier is not in registry/models.json
    NO_KEY = "no_key"
    TOO_LARGE = "too_large"  # the prompt is larger than one may be
    CIRCUIT_OPEN = "circuit_open"  # too many failures just now
    BUDGET_SPENT = "budget_spent"
    NO_LEDGER = "no_ledger"  # Redis does not answer, so nobody knows what is left of the budget
    # Nobody answered.
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    RATE_LIMITED = "rate_limited"  # retry_after_ms says when to ask again, when the API said so
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    AUTH = "auth"  # the key is wrong, or may not do this
    INVALID_REQUEST = "invalid_request"
    MALFORMED = "malformed"  # no message of the API: HTML, half a body, another JSON
    CANCELED = "canceled"  # in a batch: it was cancelled before its turn came
    EXPIRED = "expired"  # in a batch: its turn did not come within a day
    # The answer cannot be used. It was paid for.
    REFUSED = "refused"  # the model declines
    CUT_OFF = "cut_off"  # longer than max_tokens
    INVALID_JSON = "invalid_json"
    INVALID_ANSWER = "invalid_answer"  # not of the schema, or of something that was never shown
    UNSAFE_ANSWER = "unsafe_answer"  # it tries to set what no model may set
    ERROR = "error"  # a defect of this program; the detail names it


#: Nobody was asked: neither the breaker nor the bill learns anything.
NOT_ASKED = frozenset(
    {Reason.DISABLED, Reason.NO_KEY, Reason.TOO_LARGE, Reason.CIRCUIT_OPEN, Reason.BUDGET_SPENT,
     Reason.NO_LEDGER}
)  # fmt: skip
#: The same for every tier: asking another one would not help.
FOR_ALL_TIERS = frozenset(
    {Reason.NO_KEY, Reason.TOO_LARGE, Reason.NO_LEDGER, Reason.UNREACHABLE, Reason.AUTH, Reason.ERROR}
)
#: The API says that it did nothing for us, so there is nothing to pay.
NOT_PAID = frozenset(
    {Reason.UNREACHABLE, Reason.RATE_LIMITED, Reason.OVERLOADED, Reason.SERVER_ERROR, Reason.AUTH,
     Reason.INVALID_REQUEST, Reason.CANCELED, Reason.EXPIRED}
)  # fmt: skip
