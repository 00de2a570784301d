"""Handlers that are careless with what they are given: each puts it into an error and a log line."""

import logging


def fail(event, deps):
    data = event.data
    logging.getLogger(__name__).warning("logging in as %s", data["user"])
    raise ValueError(f"login failed: password={data['password']} at {data['url']}")


def refuse(event, deps):
    raise ValueError(f"{event.data['password']} was refused")
