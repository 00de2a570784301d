"""Secrets are rotated while the ingress runs: two values are accepted, and a changed file counts at once."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import SettingsError
from tests.conftest import wait_until
from tests.ingress.served import delivery_headers, payload, serve

BODY = payload("workflow_run.completed")


def test_tokens_and_webhook_secrets_are_rotated_without_a_restart(tmp_path: Path, redis_url: str):
    tokens, secrets = tmp_path / "tokens", tmp_path / "secrets"
    tokens.write_text("token-of-monday\n")
    secrets.write_text("secret-of-monday\n")
    served = serve(
        tmp_path,
        redis_url,
        JOELCLAW_EVENTS_TOKEN_FILE=str(tokens),
        GITHUB_WEBHOOK_SECRET_FILE=str(secrets),
    )

    def status(token: str) -> int:
        event = {"name": "discovery/noted", "data": {"url": "http://a"}}
        return http.post("/events", json=event, headers={"Authorization": f"Bearer {token}"}).status_code

    def delivered(secret: str) -> int:
        return http.post(
            "/webhooks/github", content=BODY, headers=delivery_headers(BODY, secret=secret)
        ).status_code

    def seen(secret: str, changes: int) -> bool:
        assert 200 == delivered(secret)  # never a wrong one: too many of them are throttled
        return changes == served.log.count(f"{secrets} has changed")

    with served.client() as http:
        assert [202, 401] == [status("token-of-monday"), status("token-of-friday")]
        assert 200 == delivered("secret-of-monday")

        tokens.write_text("token-of-friday\ntoken-of-monday\n")
        secrets.write_text("secret-of-friday\nsecret-of-monday\n")
        wait_until(lambda: status("token-of-friday") == 202, "the new token counts", 5)
        wait_until(lambda: seen("secret-of-monday", 1), "the new secret counts", 5)
        assert [202, 200, 200] == [
            status("token-of-monday"), delivered("secret-of-friday"), delivered("secret-of-monday"),
        ]  # fmt: skip

        tokens.write_text("token-of-friday\n")
        secrets.write_text("secret-of-friday\n")
        wait_until(lambda: status("token-of-monday") == 401, "the old token is refused", 5)
        wait_until(lambda: seen("secret-of-friday", 2), "the old secret is refused", 5)
        assert [202, 200, 401] == [
            status("token-of-friday"), delivered("secret-of-friday"), delivered("secret-of-monday"),
        ]  # fmt: skip

        tokens.unlink()  # half way through somebody's rotation
        wait_until(
            lambda: status("token-of-friday") == 202 and "cannot be read" in served.log, "it is told", 5
        )
    assert 0 == served.stop()
    assert [] == [value for value in ("monday", "friday") if value in served.log]


def test_the_value_of_the_environment_counts_beside_those_of_the_file(tmp_path: Path):
    file = tmp_path / "tokens"
    file.write_text("\n second \n\nthird\n")
    assert ("first", "second", "third") == Credentials("first", file)()
    assert () == Credentials("  ")()
    assert () == Credentials(None)()


def test_a_file_that_is_missing_at_the_start_is_refused(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        Credentials(None, tmp_path / "none")


def test_an_empty_file_refuses_everybody(tmp_path: Path, redis_url: str):
    (tmp_path / "tokens").write_text("\n")
    served = serve(tmp_path, redis_url, JOELCLAW_EVENTS_TOKEN_FILE=str(tmp_path / "tokens"))
    headers = {"Authorization": "Bearer x"}
    assert 401 == httpx.post(f"{served.url}/events", json={}, headers=headers, trust_env=False).status_code
    assert 0 == served.stop()
