"""Tie a child's life to its parent's: when the parent dies, even by kill -9, the child gets SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def tether() -> Callable[[], None]:
    """A `preexec_fn` for a child started by this thread (the kernel watches the thread that forked).

    Does nothing where the kernel offers no such signal (it is Linux's own): there the next
    `joelclaw up` ends what was left.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    # Looked up before the fork: the child of a process with threads must not load libraries.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it died between the fork and the call
            os._exit(1)

    return tie
