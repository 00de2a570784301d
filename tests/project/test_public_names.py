"""The names that the package offers, as its users import them, in a process that imported nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import joelclaw_tasks

UNKNOWN = "'no/such event', {}"


@pytest.mark.parametrize("name", joelclaw_tasks.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(joelclaw_tasks, name) is not None


@pytest.mark.parametrize(
    "first",
    ["", "joelclaw_tasks.emit", "import joelclaw_tasks.emit", "from joelclaw_tasks.emit import Emitter"],
)
def test_emit_is_callable_however_often_it_is_named_and_whatever_was_imported_before(first, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    program = f"""
import joelclaw_tasks
{first}
from joelclaw_tasks import emit
from joelclaw_tasks.errors import UnknownEvent
for call in (joelclaw_tasks.emit, joelclaw_tasks.emit, emit):
    try:
        call({UNKNOWN})
    except UnknownEvent:
        print("refused")
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ("refused\n" * 3, "") == (answer.stdout, answer.stderr)


def test_the_package_alone_imports_neither_celery_nor_redis():
    program = "import sys, joelclaw_tasks; print(sorted({'celery', 'redis', 'pytest'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "[]" == answer.stdout.strip()
