"""Fleets of small processes that are gone when their test is."""

import contextlib

import pytest

from tests.fleet.driven import Driven


@pytest.fixture
def drive(tmp_path):
    """Start a small fleet; `home` is the same for all of one test unless given."""
    with contextlib.ExitStack() as stack:

        def start(*processes, home=None, **wanted):
            driven = Driven(home or tmp_path / "home", *processes, **wanted)
            stack.callback(driven.close)
            return driven

        yield start
