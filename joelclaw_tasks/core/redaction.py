"""Redaction: takes secrets out of text that is kept or shown, such as a traceback.

The text may come from anybody, so every pattern is bounded: none takes more than linear time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from urllib.parse import quote, urlsplit

#: What stands where a secret was.
MASK = "***"
#: A shorter value hides nothing, and masking it would spoil ordinary text.
SHORTEST_SECRET = 6
_SECRET_NAME = re.compile(r"(?i)(token|secret|password|passwd|credential|api_?key|private_?key|_key$|_pat$)")
#: The second part is for a password with an `@` in it that is not escaped.
_URL_PASSWORD = re.compile(r"""(://[^/\s:@]*:)[^@\s]+(?:@[^\s@/,;"'<>]*(?=@))*@""")
_WORD = re.compile(r"\S+")
#: What a secret looks like, after the pieces of text of which it must have one: looking for them first costs
#: next to nothing, and most text has none.
_SHAPES = (
    (
        ("-----BEGIN",),
        re.compile(
            r"(?s)-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
        ),
    ),
    (
        ("sk-", "sk_", "pk-", "pk_", "rk_", "xox", "glpat-"),
        re.compile(r"(?<![\w-])(?:sk|pk|rk|xox[abeprs]|glpat)[-_][\w-]{16,}"),
    ),
    (
        ("gh", "AKIA", "AIza"),
        re.compile(r"(?<!\w)(?:gh[opsur]_\w{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,})"),
    ),
    (("eyJ",), re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")),  # a JSON Web Token
    ((":AA",), re.compile(r"(?<!\d)\d{8,10}:AA[\w-]{28,}")),  # a token of a Telegram bot
)
_SCHEMES = ("bearer", "basic")
_BEARER = re.compile(r"(?i)(\b(?:bearer|basic)\s{1,3})(?=[\w.~+/-]{0,60}[\d=])[\w.~+/-]{8,}={0,2}")
_NAMES = (
    "passw", "passp", "pwd", "secret", "token", "api", "access", "private", "signing", "encrypt",
    "authorization", "credential", "cookie", "session", "key=",
)  # fmt: skip
_NAME = (
    r"(?:password|passwd|passphrase|\bpwd|secret|token|(?:api|access|private|signing|encryption)[_-]?key"
    r"|authorization|credentials?|cookie|session[_-]?id"
)
_SECRET_ARGUMENT = re.compile(rf"(?i){_NAME})")
#: In quotes, which text inside of text has escaped; in brackets; or up to where a value seems to end.
#: Text that was cut has no end.
_VALUE = (
    r"""(?:\\"(?:\\{3}"|\\(?!").|[^"\\\n])*(?:\\")?|\\'(?:\\{3}'|\\(?!').|[^'\\\n])*(?:\\')?"""
    r"""|[bru]{0,2}"(?:\\{1,3}"|\\.|[^"\\\n])*"?|[bru]{0,2}'(?:\\{1,3}'|\\.|[^'\\\n])*'?"""
    r"""|[\[({][^\])}\n]*[\])}]?|[^\s,;&)}\]"']+)"""
)
_NAMED = re.compile(
    rf"(?i)({_NAME}|\bkey(?==))"
    r"""[\w-]{0,40}\\?["']?\s{0,3}(?:[=:]|%3D)\s{0,3})(?:(?:bearer|basic|token|digest)\s{1,3})?""" + _VALUE
)
_PIECES = ("://", *(piece for pieces, _ in _SHAPES for piece in pieces))
_LOWER_PIECES = (*_NAMES, *_SCHEMES)


def may_hold_secret(text: str) -> bool:
    """Whether `redacted` without values may find something: answered in a fraction of its time."""
    for piece in _PIECES:
        if piece in text:
            return True
    lower = text.lower()
    for piece in _LOWER_PIECES:  # noqa: SIM110  # any() takes twice as long, and every publish asks
        if piece in lower:
            return True
    return False


def is_secret_name(name: str) -> bool:
    """Whether what an argument or a member of this name holds must not be shown."""
    return _SECRET_ARGUMENT.search(name) is not None


def redacted(text: str, secrets: Collection[str] = ()) -> str:
    """The text with every secret in it masked: the given values, and whatever looks like one.

    That is passwords of URLs, bearer tokens, `password=…` and its kin, private keys, and tokens whose
    makers gave them a form of their own.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pieces, shape in _SHAPES:
        if any(piece in text for piece in pieces):
            text = shape.sub(MASK, text)
    text = without_url_passwords(text)
    lower = text.lower()
    if any(name in lower for name in _NAMES):
        text = _NAMED.sub(rf"\g<1>{MASK}", text)
    if any(scheme in lower for scheme in _SCHEMES):
        text = _BEARER.sub(rf"\g<1>{MASK}", text)
    return text


def without_url_passwords(text: str) -> str:
    """The text with the password of every URL in it masked."""
    if "://" not in text:
        return text

    def masked(found: re.Match[str]) -> str:
        # Only up to the last @: behind it, each of many `://` would look for one in vain.
        word, end = found[0], found[0].rfind("@") + 1
        return _URL_PASSWORD.sub(rf"\g<1>{MASK}@", word[:end]) + word[end:]

    return _WORD.sub(masked, text)


def secrets_of(environment: Mapping[str, str] | None = None) -> set[str]:
    """The values that must never be shown: of variables that are named like a secret, and URL passwords."""
    found = set()
    for name, value in (os.environ if environment is None else environment).items():
        if _SECRET_NAME.search(name):
            found.add(value.strip())
        if "://" in value:
            found.add(_password_of(value))
    found = {value for value in found if len(value) >= SHORTEST_SECRET}
    return found | {quote(value, safe="") for value in found}


def _password_of(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return ""
