"""The same script on stock Celery and on the admission layer gives the same results."""

from __future__ import annotations

import pytest
from celery import chain, chord, group
from celery.exceptions import TimeoutError as ResultTimeout
from stranger_app import make_app
from workers import Site, close_app

from tests.conftest import wait_until


def outcome(result) -> tuple[str, object]:
    """State and value of a result, in words that can be compared."""
    try:
        value = result.get(timeout=20)
    except ResultTimeout:
        return "TIMEOUT", None
    except Exception as error:  # noqa: BLE001  # whatever the task raised is what is compared
        value = f"{type(error).__name__}: {error}".replace(str(result.id), "<id>")
    return getattr(result, "state", ""), value


SCRIPT = {
    "call": lambda app: app.tasks["add"].delay(2, 3),
    "chord of 200": lambda app: chord(
        (app.tasks["add"].s(n, n) for n in range(200)), app.tasks["total"].s()
    )(),
    "chain of 50": lambda app: chain(app.tasks["add"].s(1, 1), *[app.tasks["add"].s(1) for _ in range(49)])(),
    "group of 100": lambda app: group(app.tasks["add"].s(n, 1) for n in range(100)).apply_async(),
    "chain of a group, which is a chord": lambda app: chain(
        group(app.tasks["add"].s(n, 1) for n in range(5)), app.tasks["total"].s(), app.tasks["add"].s(100)
    )(),
    "nested chords": lambda app: chord(
        [chord([app.tasks["add"].s(n, k) for k in range(3)], app.tasks["total"].s()) for n in range(4)],
        app.tasks["total"].s(),
    )(),
    "chord with a failing header": lambda app: chord(
        [app.tasks["add"].s(1, 1), app.tasks["fail"].s("header")], app.tasks["total"].s()
    )(),
    "chain with a failing step": lambda app: chain(
        app.tasks["add"].s(1, 1), app.tasks["fail"].si("step"), app.tasks["add"].s(1)
    )(),
    "retried twice": lambda app: app.tasks["flaky"].delay(2),
    "out of retries": lambda app: app.tasks["flaky"].delay(9, 0.01),
    "replaced": lambda app: app.tasks["replaced"].delay(1),
    "replaced by a chord": lambda app: app.tasks["replaced_by_chord"].delay(8),
    "countdown": lambda app: app.tasks["add"].apply_async((1, 1), countdown=0.5),
    "expired": lambda app: app.tasks["add"].apply_async((1, 1), countdown=0.6, expires=0.1),
    "failed": lambda app: app.tasks["fail"].delay("text"),
    "rejected": lambda app: app.tasks["rejected"].delay(f"rejected-{id(app)}", requeue=False),
    "rejected once": lambda app: app.tasks["rejected"].delay(f"requeued-{id(app)}", requeue=True),
    "unknown": lambda app: app.send_task("nobody.knows.me"),
    "wrong arguments": lambda app: app.send_task("add", (1,)),
    "soft limit": lambda app: app.tasks["soft_limited"].delay("soft"),
    "hard limit": lambda app: app.tasks["hard_limited"].delay(),
}


@pytest.fixture(scope="module")
def both(broker_redis: int):
    """Outcomes of the script: on stock Celery, and on ours."""
    sites = []
    outcomes = []
    for number, installed in ((12, False), (13, True)):
        url = f"redis://127.0.0.1:{broker_redis}/{number}"
        site = Site(url)
        sites.append(site)
        site.wait_reachable(site.start("prefork", installed=installed).wait_ready())
        app = make_app(url, installed=installed)
        results = {name: call(app) for name, call in SCRIPT.items()}
        revoked = app.tasks["add"].apply_async((1, 1), countdown=1)
        app.control.revoke(revoked.id)
        results["revoked"] = revoked
        countdowns = [app.tasks["note"].apply_async(("countdowns", n), countdown=1) for n in range(50)]
        outcomes.append({name: outcome(result) for name, result in results.items() if hasattr(result, "id")})
        wait_until(lambda: len(countdowns) == site.client.llen("countdowns"), "countdowns ran", 20)  # noqa: B023
        outcomes[-1]["countdowns"] = ("", sorted(site.effects("countdowns")))
        close_app(app)
    yield tuple(outcomes)
    for site in sites:
        site.close()


@pytest.mark.parametrize("name", [*SCRIPT, "revoked", "countdowns"])
def test_the_result_is_that_of_stock_celery(both, name: str):
    stock, ours = both
    assert stock[name] == ours[name]
    assert "TIMEOUT" != ours[name][0]
