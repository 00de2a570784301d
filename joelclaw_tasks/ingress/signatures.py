"""Who signed this? Comparisons that take the same time whether they succeed or fail."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = b"sha256="


def signed_with_any(secrets: Sequence[str], body: bytes | bytearray, header: bytes | None) -> bool:
    """True when `header` is `sha256=` and the hex HMAC-SHA256 of the raw body under one of the secrets.

    Every secret is tried, with no early exit, so that during a rotation the time tells nobody
    which one is in use. No secret, or a header of any other shape, is simply False: nothing
    that a sender puts into the header raises.
    """
    given = header if header is not None and header.startswith(_PREFIX) else b""
    matched = False
    for secret in secrets:
        digest = hmac.digest(secret.encode("utf-8", "surrogateescape"), body, "sha256").hex()
        matched |= hmac.compare_digest(_PREFIX + digest.encode("ascii"), given)
    return matched


def bears_token(tokens: Sequence[str], header: bytes | None) -> bool:
    """True when `header` is `Bearer <token>` with one of the tokens; always False when there is none.

    Digests are compared instead of the tokens, because comparing bytes of unequal length
    returns early and would tell the length; and every token is tried, as for signatures.
    """
    scheme, _, given = (header or b"").partition(b" ")
    return is_one_of(tokens, given.strip()) and scheme.lower() == b"bearer"


def is_one_of(secrets: Sequence[str], given: bytes | None) -> bool:
    """True when `given` is one of the secrets; the time tells neither which nor how near it was."""
    given_digest = hashlib.sha256(given or b"").digest()
    same = False
    for secret in secrets:
        expected_digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        same |= hmac.compare_digest(expected_digest, given_digest)
    return same
