"""A process that has imported the command line and forks for every call: one call costs no imports.

Each call is a process of its own, with its arguments, environment, folder and streams. What it saves is most
of the CPU time of a command, and with it minutes of the suite.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
#: What these say is read before the first line of a program: a call that changes them needs an interpreter.
_READ_AT_START = ("PYTHON", "LC_", "LANG")


class Zygote:
    """The parent's end. It dies with its parent, or when it is closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zygote-")
        self._address = f"{self._folder.name}/socket"
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.zygote", self._address], cwd=ROOT, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def may_run(self, env: Mapping[str, str]) -> bool:
        """Whether a process with this environment is the same as one that is forked."""
        return _start_of(env) == _start_of(self.environment)

    def start(
        self, arguments: Sequence[str | bytes], env: Mapping[str, str], cwd: Path, fds: list[int]
    ) -> Call:
        """Start `joelclaw` with these arguments on stdin, stdout and stderr."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        asked = {"arguments": [os.fsdecode(each) for each in arguments], "env": dict(env), "cwd": str(cwd)}
        socket.send_fds(connection, [json.dumps(asked).encode() + b"\n"], fds)
        return Call(connection)

    def run(
        self, arguments: Sequence[str | bytes], env: Mapping[str, str], cwd: Path, stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        """As `subprocess.run` with captured output."""
        with (
            tempfile.TemporaryFile() as given,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            given.write(stdin)
            given.seek(0)
            call = self.start(arguments, env, cwd, [given.fileno(), out.fileno(), err.fileno()])
            return subprocess.CompletedProcess(arguments, call.wait(60), _all_of(out), _all_of(err))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()
        self._folder.cleanup()


class Call:
    """One process that was forked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def wait(self, timeout_s: float) -> int:
        """Its exit code, or minus the number of the signal that ended it. Raises TimeoutError."""
        self._connection.settimeout(timeout_s)
        with self._connection, self._connection.makefile("r") as answers:
            return int(answers.readline())


def _start_of(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START)}


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


# -- the child's end ------------------------------------------------------------------------------


def serve(address: str) -> None:
    """Fork for every call, until stdin ends."""
    _import_all()
    gc.freeze()  # else the first collection of every child copies all pages
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                listener.close()
                _keep(connection)
            connection.close()


def _import_all() -> None:
    """What commands import on their way, but nothing that reads settings when it is imported."""
    import joelclaw_tasks.cli as commands

    for module in pkgutil.iter_modules(commands.__path__):
        importlib.import_module(f"joelclaw_tasks.cli.{module.name}")
    for name in ("redis", "rich.table", "joelclaw_tasks.emit", "joelclaw_tasks.steering.queue"):
        importlib.import_module(name)


def _keep(connection: socket.socket) -> NoReturn:
    """Fork the program, and tell its exit code when it has ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, fds = b"", list[int]()
    while not asked.endswith(b"\n"):
        piece, more, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        asked, fds = asked + piece, fds + list(more)
    pid = os.fork()
    if not pid:
        connection.close()
        _become(json.loads(asked), fds)
    for fd in fds:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(asked: dict[str, Any], fds: list[int]) -> NoReturn:
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    random.seed()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        setattr(sys, name, _stream(number, mode))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["joelclaw", *asked["arguments"]]
    from joelclaw_tasks.cli.app import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    # A command leaves nothing behind; to take the interpreter apart would cost more than it ran.
    os._exit(code if isinstance(code, int) else 1)


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    """As the interpreter makes it when it starts."""
    raw = open(number, f"{mode}b", closefd=False)  # noqa: SIM115  # as long as the process
    errors = "backslashreplace" if number == 2 else "strict"
    return io.TextIOWrapper(raw, errors=errors, line_buffering=number == 2 or os.isatty(number))


if __name__ == "__main__":
    serve(sys.argv[1])
