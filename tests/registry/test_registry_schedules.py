"""registry/schedules.json: what a schedule is, and what is wrong with one, in words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from celery.schedules import crontab_parser
from hypothesis import given
from hypothesis import strategies as st

from joelclaw_tasks.registry import Registry
from joelclaw_tasks.registry_schedules import cron_numbers, schedules_schema
from tests.registry.conftest import RegistryDirectory

ROOT = Path(__file__).resolve().parents[2]


def a_document(**changes: Any) -> dict[str, Any]:
    one = {"event": "note/taken", "cron": "0 * * * *"} | changes
    return {"schedules": {"hourly": {name: value for name, value in one.items() if value is not ...}}}


def test_a_schedule_in_order_becomes_a_spec_and_counts_for_the_version(directory: RegistryDirectory):
    directory.write_event()
    without = directory.load()
    event = next(iter(without.events))
    directory.write("schedules.json", a_document(event=event, timezone="Europe/Berlin", data={"n": 1}))

    found = directory.load()

    one = found.schedules["hourly"]
    assert ("hourly", event, "0 * * * *", None, "Europe/Berlin", {"n": 1}) == (
        one.name, one.event, one.cron, one.every_s, one.timezone, one.data,
    )  # fmt: skip
    assert (0, "skip", True) == (one.jitter_s, one.catch_up, one.enabled)
    assert {} == dict(without.schedules)
    assert without.version != found.version


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"cron": "0 * * *"},
            "has 4 fields; write five: minute, hour, day of the month, month, day of the week",
        ),
        ({"cron": "60 * * * *"}, '"60" as minute; it is 0 to 59'),
        ({"cron": "0 8 * * funday"}, '"funday" as day of the week; it is 0 to 7'),
        ({"cron": "*/0 * * * *"}, '"*/0" as minute, which is no range with a step of 1 or more'),
        ({"cron": "5-1 * * * *"}, '"5-1" as minute, which is no range'),
        ({"cron": "@hourly"}, "has 1 fields"),
        ({"cron": "0 0 30 2 *"}, "is never due: no such month has such a day"),
        ({"cron": "; rm * * *"}, "as minute; write *, 5, 1-5, */10 or a list of them"),
        ({"timezone": "Europe/Berlinn"}, '"Europe/Berlinn" is no time zone; write one such as Europe/Berlin'),
        ({"timezone": "../../etc/passwd"}, "is no time zone"),
        ({"every_s": 5}, "needs cron or every_s, and not both"),
        ({"cron": ...}, "needs cron or every_s, and not both"),
        ({"cron": ..., "every_s": 0.5}, "every_s: "),
        ({"cron": ..., "every_s": 5, "timezone": "Europe/Berlin"}, "timezone says nothing for every_s"),
        ({"catch_up": "some"}, "catch_up: "),
        ({"jitter_s": -1}, "jitter_s: "),
        ({"event": "note/takn"}, '"note/takn" is no event here'),
        ({"data": []}, "data: "),
        ({"cro": "0 * * * *"}, 'did you mean "cron"?'),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    directory: RegistryDirectory, changes: dict[str, Any], fault: str
):
    directory.write_event()
    event = next(iter(directory.load().events))
    directory.write("schedules.json", a_document(**({"event": event} | changes)))

    [found] = directory.faults()

    assert found.startswith("schedules.json: schedules.hourly")
    assert fault in found


def test_a_bad_name_is_refused(directory: RegistryDirectory):
    directory.write_event()
    event = next(iter(directory.load().events))
    directory.write(
        "schedules.json", {"schedules": {"Every Hour": a_document(event=event)["schedules"]["hourly"]}}
    )

    [found] = directory.faults()

    assert '"Every Hour" is not the name of a schedule' in found


def ranges(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    plain = number.map(str)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    every = st.integers(1, most).map(lambda step: f"*/{step}")
    stepped = st.tuples(span, st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    part = st.one_of(st.just("*"), plain, span, every, stepped)
    return st.lists(part, min_size=1, max_size=3).map(",".join)


@given(ranges(0, 59), ranges(0, 23), ranges(1, 12), ranges(0, 6))
def test_a_field_means_what_it_means_to_celery(minute: str, hour: str, month: str, weekday: str):
    found = cron_numbers(f"{minute} {hour} * {month} {weekday}")

    assert sorted(crontab_parser(60).parse(minute)) == found[0]
    assert sorted(crontab_parser(24).parse(hour)) == found[1]
    assert list(range(1, 32)) == found[2]
    assert sorted(crontab_parser(12, 1).parse(month)) == found[3]
    assert sorted(crontab_parser(7).parse(weekday)) == found[4]


def test_names_steps_and_the_second_sunday_are_understood():
    assert [[30], [8], [1, 11, 21, 31], [1, 12], [1, 2, 3, 4, 5]] == cron_numbers("30 8 */10 jan,DEC mon-fri")
    assert [0] == cron_numbers("0 0 * * 7")[4]
    assert [0, 5, 6] == cron_numbers("0 0 * * 5-7")[4]
    assert [5, 20, 35, 50] == cron_numbers("5/15 * * * *")[0]


def test_the_schema_file_is_that_of_the_models_and_the_shipped_schedules_obey_it():
    assert schedules_schema() == (ROOT / "registry/schedules.schema.json").read_text()
    document = json.loads((ROOT / "registry/schedules.json").read_text())

    jsonschema.validate(document, json.loads(schedules_schema()))

    assert ["feeds-hourly"] == list(Registry.load(ROOT / "registry").schedules)
