"""Signatures and tokens: what passes, and that nothing else does."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from joelclaw_tasks.ingress.signatures import bears_token, signed_with_any

BODY = b'{"zen": "Keep it logically awesome."}'


def sign(secret: str, body: bytes = BODY) -> bytes:
    return b"sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()


def test_the_example_of_githubs_documentation_passes():
    header = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert signed_with_any(("It's a Secret to Everybody",), b"Hello, World!", header)


@pytest.mark.parametrize("secret", ["old", "new"])
def test_during_a_rotation_either_secret_signs(secret: str):
    assert signed_with_any(("old", "new"), BODY, sign(secret))


def test_without_a_secret_nothing_passes():
    assert not signed_with_any((), BODY, sign(""))


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"sha256=",
        b"sha256",
        sign("other"),
        sign("secret", BODY + b" "),
        sign("secret").removeprefix(b"sha256="),
        sign("secret").upper(),
        sign("secret").replace(b"sha256=", b"SHA256="),
        sign("secret") + b" ",
        sign("secret")[:-1],
        sign("secret") + b"0",
        b"sha1=" + b"0" * 40,
        b"sha256=" + "é".encode() * 32,
        b"sha256=" + b"\xff" * 64,
        b"sha256=" + b"z" * 64,
        b"sha256=" + b"0" * 100_000,
        b"\x00",
    ],
)
def test_a_header_of_any_other_shape_is_refused_without_raising(header: bytes | None):
    assert not signed_with_any(("secret",), BODY, header)


@pytest.mark.parametrize("header", [b"Bearer s3same", b"bearer s3same", b"BEARER   s3same "])
def test_the_token_passes_whatever_the_case_of_its_scheme(header: bytes):
    assert bears_token(("s3same",), header)


@pytest.mark.parametrize(
    "header", [None, b"", b"Bearer", b"Bearer ", b"s3same", b"Basic s3same", b"Bearer s3sam", b"Bearer \xff"]
)
def test_any_other_authorization_is_refused(header: bytes | None):
    assert not bears_token(("s3same",), header)


def test_without_a_token_nothing_passes():
    assert not bears_token((), b"Bearer ")
    assert not bears_token((), None)


@pytest.mark.parametrize(("token", "passes"), [("old", True), ("new", True), ("other", False)])
def test_during_a_rotation_either_token_passes(token: str, passes: bool):
    assert passes is bears_token(("old", "new"), b"Bearer " + token.encode())
