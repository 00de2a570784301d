"""No test reaches a real model: not by accident, and not by swallowing the error."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from joelclaw_tasks.intelligence.client import ModelClient
from joelclaw_tasks.intelligence.decision import Fallback
from joelclaw_tasks.intelligence.reason import Reason
from tests.intelligence.conftest import a_question


@pytest.mark.parametrize("host", ["api.anthropic.com", b"API.Anthropic.com."])
def test_a_real_host_is_not_looked_up_and_the_test_would_fail(real_hosts: list[str], host: str | bytes):
    with pytest.raises(OSError, match="real model"):
        socket.getaddrinfo(host, 443)

    assert 1 == len(real_hosts)
    real_hosts.clear()


def test_a_client_without_an_address_of_its_own_gets_nowhere(
    model_client: Callable[..., ModelClient], real_hosts: list[str]
):
    fallback = model_client(base_url=None).decide(a_question(), budget_ms=5_000)

    assert isinstance(fallback, Fallback)
    assert Reason.UNREACHABLE == fallback.reason
    assert ["api.anthropic.com"] == real_hosts
    real_hosts.clear()


def test_processes_of_tests_have_no_key_and_an_address_of_nobody():
    code = "import os; print([name for name in os.environ if 'ANTHROPIC' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "['ANTHROPIC_BASE_URL']" == done.stdout.strip()
    assert "http://127.0.0.1:9" == os.environ["ANTHROPIC_BASE_URL"]
