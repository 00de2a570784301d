"""Flower shows and steers everything: it listens on loopback, or asks who is there.

Left alone it listens on all addresses and asks nobody. `celery -A joelclaw_tasks flower` loads this app
before it reads its own options, so they are judged here.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

from joelclaw_tasks.errors import SettingsError
from joelclaw_tasks.settings import is_loopback

_LOOPBACK = "127.0.0.1"
_AUTH = ("basic_auth", "auth")


def guard_flower(argv: Sequence[str], env: MutableMapping[str, str]) -> None:
    """For a command line that starts Flower: loopback unless told otherwise.

    Raises SettingsError for another address without FLOWER_BASIC_AUTH (or `--auth`).
    """
    if "flower" not in argv:
        return
    given = _options(argv[list(argv).index("flower") + 1 :])
    address = given.get("address", env.get("FLOWER_ADDRESS", _LOOPBACK))
    env["FLOWER_ADDRESS"] = address
    has_auth = any(given.get(name) or env.get(f"FLOWER_{name.upper()}") for name in _AUTH)
    if not is_loopback(address) and not has_auth and not given.get("unix_socket"):
        raise SettingsError(
            f"Flower may not listen on {address!r}, which others can reach, without asking who is there",
            fix="Set FLOWER_BASIC_AUTH to user:password, or --address=127.0.0.1.",
        )


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name=value` and `--name value`, under the names that Flower uses."""
    found = {}
    for position, argument in enumerate(arguments):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = arguments[position + 1 : position + 2]
            found[name.replace("-", "_")] = value if equals else "".join(following)
    return found
