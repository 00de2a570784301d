"""Schedules: the form of registry/schedules.json, and what is wrong with one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from joelclaw_tasks.registry_faults import Fault, nearest, plain_faults, shown
from joelclaw_tasks.registry_model import DAY_S, Strict, Text, refuse

CatchUp = Literal["skip", "once", "all"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}", re.ASCII)
#: minute, hour, day of the month, month, day of the week: what each may be, and its names.
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,2}))?", re.ASCII)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One schedule: the event that it emits, when (`cron` or `every_s`), and what becomes of missed times.

    `cron` has the five fields of crontab(5); all of them must match (see cron_numbers).
    """

    name: str
    event: str
    data: Mapping[str, Any]
    cron: str | None
    every_s: float | None
    timezone: str
    jitter_s: float
    catch_up: CatchUp
    enabled: bool
    description: str | None

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "data": dict(self.data)}


def cron_numbers(text: str) -> list[list[int]]:
    """The numbers that match, for each of the five fields of crontab(5); 0 is Sunday.

    `*`, numbers, ranges, steps and lists; names of days and months. Raises ValueError with what is wrong.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"has {len(fields)} fields; write five: minute, hour, day of the month, month, day of the week"
        )
    found = [_numbers(field, *each) for field, each in zip(fields, _FIELDS, strict=True)]
    found[4] = sorted({number % 7 for number in found[4]})
    days, months = found[2], found[3]
    if all(min(days) > _LONGEST_MONTH.get(month, 31) for month in months):
        raise ValueError("is never due: no such month has such a day")
    return found


def _numbers(field: str, what: str, least: int, most: int, names: tuple[str, ...]) -> list[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"has {shown(part)} as {what}; write *, 5, 1-5, */10 or a list of them")
        first, last, step = match.groups()
        low = least if first is None else _number(first, what, least, most, names)
        high = low if first is not None and step is None else most
        if last is not None:
            high = _number(last, what, least, most, names)
        if what == "day of the week" and first is None:
            high = 6  # 7 is Sunday a second time
        if step == "0" or low > high:
            raise ValueError(f"has {shown(part)} as {what}, which is no range with a step of 1 or more")
        found.update(range(low, high + 1, int(step or 1)))
    return sorted(found)


def _number(text: str, what: str, least: int, most: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + least
    if not text.isdigit() or not least <= int(text) <= most:
        raise ValueError(f"has {shown(text)} as {what}; it is {least} to {most}")
    return int(text)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise refuse(
            f"{shown(name)} is not the name of a schedule; use 1 to 80 small letters, digits, ., _ and -, "
            "and start with a letter or a digit"
        )
    return name


def _check_cron(text: str) -> str:
    try:
        cron_numbers(text)
    except ValueError as error:
        raise refuse(f"{shown(text)} {error}") from None
    return text


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise refuse(f"{shown(name)} is no time zone; write one such as Europe/Berlin or UTC") from None
    return name


class ScheduleModel(Strict):
    """One schedule."""

    event: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="The event that is emitted."
    )
    data: dict[str, Any] = Field(default_factory=dict, description="Its data.")
    description: Text | None = None
    cron: Annotated[str, Field(max_length=200), AfterValidator(_check_cron)] | None = Field(
        default=None,
        description="minute, hour, day of the month, month, day of the week; all five must match.",
    )
    every_s: Annotated[float, Field(ge=1, le=366 * DAY_S)] | None = Field(
        default=None, description="Seconds between two due times, counted since 1970."
    )
    timezone: Annotated[str, AfterValidator(_check_zone)] = Field(
        default="UTC", description="The time zone of cron, such as Europe/Berlin."
    )
    jitter_s: Annotated[float, Field(ge=0, le=DAY_S)] = Field(
        default=0, description="It starts up to so many seconds after it is due."
    )
    catch_up: CatchUp = Field(
        default="skip",
        description="What becomes of times at which no beat ran: skip, once (the latest), all.",
    )
    enabled: bool = Field(default=True, description="False: it is off.")

    @model_validator(mode="after")
    def _is_due_in_one_way(self) -> ScheduleModel:
        if (self.cron is None) == (self.every_s is None):
            raise refuse("needs cron or every_s, and not both")
        if self.every_s is not None and self.timezone != "UTC":
            raise refuse("timezone says nothing for every_s; remove it")
        return self

    def to_spec(self, name: str) -> ScheduleSpec:
        """The same as a value."""
        return ScheduleSpec(name=name, **self.model_dump())


ScheduleName = Annotated[str, AfterValidator(_check_name)]


class SchedulesModel(Strict):
    """The whole of schedules.json."""

    schema_: str | None = Field(default=None, alias="$schema", description="For editors; not read.")
    schedules: dict[ScheduleName, ScheduleModel] = Field(max_length=500)


def _model_at(place: tuple[str, ...]) -> type[BaseModel] | None:
    if not place:
        return SchedulesModel
    return ScheduleModel if len(place) == 2 and place[0] == "schedules" else None


def read_schedules(document: Any, events: Collection[str]) -> tuple[dict[str, ScheduleSpec], list[Fault]]:
    """Validate the content of schedules.json: the schedules by name, and every fault."""
    try:
        read = SchedulesModel.model_validate(document)
    except ValidationError as error:
        return {}, plain_faults(error, document, _model_at)
    faults: list[Fault] = [
        (f"schedules.{name}.event", f"{shown(one.event)} is no event here{nearest(one.event, list(events))}")
        for name, one in read.schedules.items()
        if one.event not in events
    ]
    return {name: one.to_spec(name) for name, one in read.schedules.items()}, faults


def schedules_schema() -> str:
    """The text of registry/schedules.schema.json, generated from the models."""
    schema = SchedulesModel.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Schedules"}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
