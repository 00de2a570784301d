"""The doctor's checks of who is told: the sinks that the settings name, and what waits for them."""

from __future__ import annotations

from collections.abc import Iterator

from joelclaw_tasks.core.notices import Notices
from joelclaw_tasks.core.store import Store
from joelclaw_tasks.credentials import Credentials
from joelclaw_tasks.errors import JoelclawError, SettingsError
from joelclaw_tasks.fleet.check import Check, fail, ok, warn
from joelclaw_tasks.notify.notifier import Pace
from joelclaw_tasks.notify.sinks import bot_of, kinds_of, names_of, sinks_of
from joelclaw_tasks.settings import Settings

_REDIS_WITHIN_S = 2.0


def notify_checks(settings: Settings, *, reachable: bool) -> Iterator[Check]:
    """Whether every sink has what it needs, the bot answers, and nothing waits. Tells nobody anything."""
    try:
        Pace.of(settings)
        names = [sink.name for sink in sinks_of(settings)]
        kinds = kinds_of(settings)
    except SettingsError as error:
        yield fail("notify", str(error), f"{error.fix} docs/notify.md says what each sink needs.")
        return
    yield ok("notify", ", ".join(names))
    if "telegram" in kinds:
        yield _bot_check(settings)
        yield _buttons_check(settings)
    if reachable:
        yield from _waiting_checks(settings)


def _bot_check(settings: Settings) -> Check:
    try:
        bot = bot_of(settings).call("getMe")
        return ok("telegram", f"answers as @{bot.get('username')}")
    except JoelclawError as error:
        return warn("telegram", str(error), "Check TELEGRAM_BOT_TOKEN and the way to api.telegram.org.")


def _buttons_check(settings: Settings) -> Check:
    if Credentials(settings.telegram_webhook_secret, settings.telegram_webhook_secret_file)():
        return ok("telegram buttons", "TELEGRAM_WEBHOOK_SECRET is set")
    return warn(
        "telegram buttons",
        "TELEGRAM_WEBHOOK_SECRET is missing: the ingress refuses what Telegram sends when one is pressed",
        "Set it for the ingress, and give the same to setWebhook as secret_token (docs/notify.md).",
    )


def _waiting_checks(settings: Settings) -> Iterator[Check]:
    store = Store.connect(settings, timeout_s=_REDIS_WITHIN_S)
    try:
        states = [Notices(store).sink(name) for name in names_of(settings)]
    finally:
        store.client.close()
    for state in states:
        if state["error"]:
            yield warn(
                f"notify {state['sink']}",
                f"{state['error']}; {state['waiting']} waiting, {state['dropped']} dropped",
                "It is sent again by itself; `joelclaw notify test` tries it now.",
            )
