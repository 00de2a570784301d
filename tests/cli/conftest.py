"""The command line as a process: piped, and on a pseudo-terminal."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.job import Job
from joelclaw_tasks.core.store import Store
from tests.cli.rules import check_envelope
from tests.cli.zygote import Zygote
from tests.conftest import wait_until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "joelclaw_tasks.cli.app"]


@cache
def zygote() -> Zygote:
    """That of this process of the suite."""
    made = Zygote()
    atexit.register(made.close)
    return made


@dataclass(frozen=True)
class Piped:
    """What a run left behind; `envelope` is stdout, which was checked against the rules."""

    code: int
    envelope: dict[str, Any]
    stderr: str

    @property
    def result(self) -> Any:
        assert self.envelope["ok"], self.envelope
        return self.envelope["result"]

    @property
    def error(self) -> dict[str, Any]:
        assert not self.envelope["ok"], self.envelope
        return self.envelope["error"]

    @property
    def next_commands(self) -> list[str]:
        return [action["command"] for action in self.envelope["next_actions"]]


@dataclass(frozen=True)
class OnTerminal:
    """What a person saw on the terminal, and what went to stderr."""

    code: int
    screen: str
    stderr: str


class JoelclawProcess:
    """Runs `joelclaw` with an environment of its own."""

    def __init__(self, home: Path, redis_url: str | None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("JOELCLAW_")}
        kept.pop("REDIS_URL", None)
        self.env = kept | {
            "PYTHONPATH": str(ROOT),
            "JOELCLAW_HOME": str(home),
            "USER": "joel",
            "COLUMNS": "120",
        }
        if redis_url is not None:
            self.env["REDIS_URL"] = redis_url
        self.home = home

    def raw(self, *arguments: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        if zygote().may_run(self.env):
            return zygote().run(arguments, self.env, self.home, stdin)
        return subprocess.run(
            [*PROGRAM, *arguments], input=stdin, env=self.env, cwd=self.home, capture_output=True, check=False
        )

    def __call__(self, *arguments: str | bytes, stdin: bytes | str = b"") -> Piped:
        stdin = stdin.encode("utf-8", "surrogatepass") if isinstance(stdin, str) else stdin
        done = self.raw(*arguments, stdin=stdin)
        assert done.stdout, done.stderr.decode()
        assert done.stdout.isascii()
        envelope = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} was printed"))
        check_envelope(envelope)
        return Piped(done.returncode, envelope, done.stderr.decode())

    def on_terminal(self, *arguments: str) -> OnTerminal:
        screen_end, program_end = pty.openpty()
        env = self.env | {"TERM": "xterm-256color", "NO_COLOR": "1"}
        with Path(os.devnull).open("rb") as nothing, tempfile.TemporaryFile() as stderr:
            fds = [nothing.fileno(), program_end, stderr.fileno()]
            call = zygote().start(arguments, env, self.home, fds)
            os.close(program_end)
            seen = read_terminal(screen_end)
            screen = re.sub(r"\x1b\[[\d;]*m", "", seen.decode()).replace("\r\n", "\n")  # without styles
            code = call.wait(20)
            stderr.seek(0)
            return OnTerminal(code, screen, stderr.read().decode())

    def until_seen(self, text: str, *arguments: str) -> int:
        """Run with stdout and stderr on one terminal, press Ctrl-C when the text shows; the exit code."""
        screen_end, program_end = pty.openpty()
        env = self.env | {"TERM": "xterm-256color"}
        process = subprocess.Popen(
            [*PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=program_end, stderr=program_end,
            env=env, cwd=self.home,
        )  # fmt: skip
        os.close(program_end)
        seen = b""
        while text.encode() not in seen:
            assert select.select([screen_end], [], [], 20)[0], f"{text!r} never showed: {seen!r}"
            assert process.poll() is None, f"{text!r} never showed: {seen!r}"
            with contextlib.suppress(OSError):  # Linux says EIO when the program has closed its end
                seen += os.read(screen_end, 65_536)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
        os.close(screen_end)
        return code

    def interrupted(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Start a command that waits for stdin, wait until it does, and press Ctrl-C."""
        with subprocess.Popen(
            [*PROGRAM, *arguments], env=self.env, cwd=self.home,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdin is not None
            process.stdin.write(b"{")
            process.stdin.flush()
            pipe = process.stdin.fileno()
            wait_until(lambda: bytes_unread(pipe) == 0, "the command has begun to read its stdin")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=20)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def read_terminal(screen_end: int, hear: Callable[[bytes], object] = lambda _: None) -> bytes:
    """All that a program shows until it closes its end; `hear` is given what was seen so far, each time."""
    seen = b""
    while select.select([screen_end], [], [], 20)[0]:
        try:
            piece = os.read(screen_end, 65_536)
        except OSError:  # Linux says EIO when the program has closed its end
            break
        if not piece:
            break
        seen += piece
        hear(seen)
    os.close(screen_end)
    return seen


def admit_content(store: Store, number: int) -> None:
    """So many jobs of the event content/updated wait in the queue default."""
    jobs = [
        Job(
            id=f"j{each}", queue="default", family="content/updated", handler="content.validate",
            lane="default|content.validate|", payload="{}",
        )
        for each in range(number)
    ]  # fmt: skip
    store.admit(jobs)


def bytes_unread(pipe: int) -> int:
    """How many bytes the other end of a pipe has not read yet."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


@pytest.fixture
def joelclaw(tmp_path: Path, redis_url: str) -> JoelclawProcess:
    """`joelclaw` against an empty Redis."""
    return JoelclawProcess(tmp_path, redis_url)


@pytest.fixture
def joelclaw_offline(tmp_path: Path) -> JoelclawProcess:
    """`joelclaw` that knows no Redis at all."""
    return JoelclawProcess(tmp_path, None)


@pytest.fixture
def store(redis_url: str) -> Any:
    """The core that the commands speak to."""
    from joelclaw_tasks.settings import Settings

    return Store.connect(Settings(redis_url=redis_url))
