"""An ingress as a process, and requests as GitHub would make them."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.conftest import free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
PAYLOADS = Path(__file__).parent / "payloads"
SECRET = "squid-ink-and-salt"
TOKEN = "token-of-the-harbour-master"


@dataclass
class ServedIngress:
    process: subprocess.Popen[bytes]
    url: str
    log_file: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self, address: str = "127.0.0.1") -> httpx.Client:
        """A client whose connections come from this loopback address."""
        return httpx.Client(
            base_url=self.url,
            transport=httpx.HTTPTransport(local_address=address),
            timeout=20,
            trust_env=False,
        )

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(15)


def serve(directory: Path, redis_url: str, *, command: list[str] | None = None, **env: str) -> ServedIngress:
    """Start an ingress on a free port; it answers when this returns."""
    port = free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
    kept.pop("GITHUB_WEBHOOK_SECRET", None)
    log_file = directory / f"ingress-{port}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *(command or ["-m", "joelclaw_tasks.ingress"]), "--port", str(port)],
            env=kept
            | {"PYTHONPATH": str(ROOT), "REDIS_URL": redis_url, "JOELCLAW_HOME": str(directory / "home")}
            | env,
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    served = ServedIngress(process, f"http://127.0.0.1:{port}", log_file)

    def answers() -> bool:
        assert process.poll() is None, served.log
        try:
            return httpx.get(served.url + "/webhooks/", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers, "the ingress answers", timeout_s=20)
    return served


def payload(name: str) -> bytes:
    """The body of a recorded delivery."""
    return (PAYLOADS / f"{name}.json").read_bytes()


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def delivery_headers(
    body: bytes, *, kind: str = "workflow_run", delivery: str | None = None, secret: str = SECRET
) -> dict[str, str]:
    """The headers of one delivery, as GitHub sends them."""
    return {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-GitHub-Event": kind,
        "X-GitHub-Hook-ID": "468120031",
        "X-GitHub-Hook-Installation-Target-ID": "681204417",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-Hub-Signature-256": signature(body, secret),
    }


def check_error(reply: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The reply is this error, in the shape of every error."""
    assert status == reply.status_code, reply.text
    assert "application/json" == reply.headers["content-type"]
    body = reply.json()
    assert {"ok", "error", "fix"} == set(body)
    assert body["ok"] is False
    assert {"code", "message"} == set(body["error"])
    assert code == body["error"]["code"]
    assert body["error"]["message"]
    assert body["fix"]
    return body
