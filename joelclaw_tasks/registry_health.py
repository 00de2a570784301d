"""The checks of the health pulse: the form of registry/health.json, and what is wrong with one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from joelclaw_tasks.registry_faults import TARGET_PATTERN, Fault, plain_faults, shown
from joelclaw_tasks.registry_model import DAY_S, Strict, Text, refuse

Kind = Literal[
    "redis", "disk", "beat", "workers", "ingress", "telegram", "anthropic", "http", "tcp", "restate", "python"
]
#: What a process of its own needs to start and to end, beside the time that the check itself may take.
START_S = 5.0
#: A call that may cost something is not made more often.
_DEAR_EVERY_S = 3_600
_MOST_WAITING = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}", re.ASCII)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}", re.ASCII)
#: Which fields say where something is, by kind: one of them must be there.
_WHERE: dict[str, tuple[str, ...]] = {
    "http": ("url", "url_env"), "tcp": ("url", "url_env"), "restate": ("url", "url_env"),
    "ingress": ("url", "url_env"), "python": ("target",), "disk": ("path",),
}  # fmt: skip
_NEEDED = ("http", "tcp", "restate", "python")
_ONLY_HTTP = ("endpoint", "contains", "slow_ms")


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check: what it looks at, how often, for how long, and how many looks turn its state."""

    name: str
    kind: Kind
    every_ms: int = 60_000
    timeout_ms: int = 5_000
    fails: int = 2
    passes: int = 2
    enabled: bool = True
    url: str | None = None
    url_env: str | None = None
    endpoint: str | None = None
    contains: str | None = None
    slow_ms: int | None = None
    most_waiting: int | None = None
    path: str | None = None
    target: str | None = None

    @property
    def limit_s(self) -> float:
        """After so long the process of a look is ended."""
        return self.timeout_ms / 1_000 + START_S

    def to_wire(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


#: What is looked at where a registry has no health.json.
DEFAULT_CHECKS: Mapping[str, CheckSpec] = {"redis": CheckSpec("redis", "redis")}


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise refuse(
            f"{shown(name)} is not the name of a check; use 1 to 40 small letters, digits, _ and -, "
            "and start with a letter or a digit"
        )
    return name


def _check_variable(name: str) -> str:
    if not _VARIABLE.fullmatch(name) or name.startswith("JOELCLAW_"):
        raise refuse(
            f"{shown(name)} is not a variable; write one such as TYPESENSE_URL (JOELCLAW_* are settings)"
        )
    return name


class CheckModel(Strict):
    """One check."""

    kind: Kind = Field(description="What is looked at.")
    description: Text | None = None
    enabled: bool = Field(default=True, description="False: it is off.")
    every_s: Annotated[float, Field(ge=10, le=DAY_S)] | None = Field(
        default=None, description="Seconds between two looks; default 60, for anthropic 3600."
    )
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        default=5, description="The longest that a look may take, in seconds."
    )
    fails: Annotated[int, Field(ge=1, le=100)] = Field(
        default=2, description="So many looks in a row that are not healthy make the state worse."
    )
    passes: Annotated[int, Field(ge=1, le=100)] = Field(
        default=2, description="So many healthy looks in a row make it healthy again."
    )
    url: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="http: http(s)://host[:port]; tcp: tcp://host:port. Never with a password."
    )
    url_env: Annotated[str, AfterValidator(_check_variable)] | None = Field(
        default=None, description="The environment variable that has the URL; not set: the check is off."
    )
    endpoint: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="http: the path that is asked for, for example /health."
    )
    contains: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="http: a text that the first 64 KiB of the answer must have."
    )
    slow_ms: Annotated[int, Field(ge=1, le=60_000)] | None = Field(
        default=None, description="http: an answer that takes longer is degraded, in milliseconds."
    )
    most_waiting: Annotated[int, Field(ge=0, le=10_000_000)] | None = Field(
        default=None, description="restate: it is degraded when more invocations wait; default 1000."
    )
    path: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        default=None, description="disk: a directory; default the fleet's home and its data."
    )
    target: Annotated[str, Field(pattern=TARGET_PATTERN, max_length=300)] | None = Field(
        default=None, description="python: a function without arguments, as package.module:function."
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> CheckModel:
        for sentence in _contradictions(self):
            raise refuse(sentence)
        return self

    def to_spec(self, name: str) -> CheckSpec:
        """The same as a value."""
        given = self.model_dump(exclude={"description", "every_s", "timeout_s"})
        if self.kind == "restate" and self.most_waiting is None:
            given["most_waiting"] = _MOST_WAITING
        return CheckSpec(
            name=name,
            every_ms=round(1_000 * _every_s(self)),
            timeout_ms=max(1, round(1_000 * self.timeout_s)),
            **given,
        )


def _every_s(check: CheckModel) -> float:
    if check.every_s is not None:
        return check.every_s
    return _DEAR_EVERY_S if check.kind == "anthropic" else 60


def _contradictions(check: CheckModel) -> list[str]:
    found = []
    where = _WHERE.get(check.kind, ())
    given = [name for name in ("url", "url_env", "path", "target") if getattr(check, name) is not None]
    found += [f"{name} says nothing for kind {check.kind}; remove it" for name in given if name not in where]
    if len(given) > 1:
        found.append(f"has {' and '.join(given)}; keep one")
    if check.kind in _NEEDED and not given:
        found.append(f"kind {check.kind} needs {' or '.join(where)}; add it")
    if check.kind != "http":
        odd = [name for name in _ONLY_HTTP if getattr(check, name) is not None]
        found += [f"{name} says nothing for kind {check.kind}; remove it" for name in odd]
    if check.kind != "restate" and check.most_waiting is not None:
        found.append(f"most_waiting says nothing for kind {check.kind}; remove it")
    if check.endpoint is not None and not check.endpoint.startswith("/"):
        found.append(f"endpoint must begin with /, not {shown(check.endpoint)}")
    if check.url is not None:
        found += _url_faults(check.kind, check.url)
    if check.kind == "anthropic" and _every_s(check) < _DEAR_EVERY_S:
        found.append(f"every_s ({check.every_s:g}) is less than {_DEAR_EVERY_S}, which a paid API is worth")
    if check.timeout_s + START_S > _every_s(check):
        found.append(
            f"timeout_s ({check.timeout_s:g}) and {START_S:g} s to start and end do not fit into "
            f"every_s ({_every_s(check):g}); lower timeout_s"
        )
    return found


def _url_faults(kind: str, url: str) -> list[str]:
    fault = url_fault(kind, url)
    return [] if fault is None else [f"url {fault}"]


def url_fault(kind: str, url: str) -> str | None:
    """What is wrong with the URL of a check, None when nothing is; never quotes the URL."""
    schemes = ("tcp",) if kind == "tcp" else ("http", "https")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        if kind == "tcp":
            is_whole = is_whole and parts.port is not None
    except ValueError:
        is_whole = False
    if not is_whole:
        form = "tcp://host:port" if kind == "tcp" else "http(s)://host[:port][/path]"
        return f"must be {form}"
    return "holds a password; use url_env" if parts.password is not None else None


CheckName = Annotated[str, AfterValidator(_check_name)]


class HealthModel(Strict):
    """The whole of health.json."""

    schema_: str | None = Field(default=None, alias="$schema", description="For editors; not read.")
    checks: dict[CheckName, CheckModel] = Field(max_length=200)


def _model_at(place: tuple[str, ...]) -> type[BaseModel] | None:
    return HealthModel if not place else CheckModel if len(place) == 2 and place[0] == "checks" else None


def read_checks(document: Any) -> tuple[dict[str, CheckSpec], list[Fault]]:
    """Validate the content of health.json: the checks by name, and every fault."""
    try:
        read = HealthModel.model_validate(document)
    except ValidationError as error:
        return {}, plain_faults(error, document, _model_at)
    return {name: check.to_spec(name) for name, check in read.checks.items()}, []


def health_schema() -> str:
    """The text of registry/health.schema.json, generated from the models."""
    schema = HealthModel.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Health checks"}
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
