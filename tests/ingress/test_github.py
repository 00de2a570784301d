"""GitHub deliveries: which are events, and what is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.datastructures import Headers

from joelclaw_tasks.ingress.providers import NormalisedEvent
from joelclaw_tasks.ingress.providers.github import GitHub
from tests.ingress.served import payload


def normalise(body: dict[str, Any], kind: str | None = "workflow_run", delivery: str | None = "d-1"):
    headers = {"x-github-event": kind, "x-github-delivery": delivery}
    return GitHub().normalise(body, Headers({name: value for name, value in headers.items() if value}))


def recorded(name: str) -> dict[str, Any]:
    return json.loads(payload(name))


def test_a_completed_run_is_one_event_with_the_facts_that_handlers_use():
    run = "https://api.github.com/repos/harbor-works/tide-tables/actions/runs/13744120958"

    assert [
        NormalisedEvent(
            name="github/workflow_run.completed",
            id="github-workflow-run-completed-d-1-13744120958",
            data={
                "action": "completed",
                "deliveryId": "d-1",
                "runId": 13744120958,
                "runNumber": 412,
                "runAttempt": 2,
                "workflowId": 66120345,
                "workflowName": "CI",
                "event": "pull_request",
                "status": "completed",
                "conclusion": "failure",
                "htmlUrl": "https://github.com/harbor-works/tide-tables/actions/runs/13744120958",
                "jobsUrl": f"{run}/jobs",
                "logsUrl": f"{run}/logs",
                "branch": "add-storm-surge",
                "headSha": "9b1f0c6de2a94d7786f0c3b5a1e84d20f7c6a913",
                "actorLogin": "mira-lindqvist",
                "repository": "harbor-works/tide-tables",
                "repositoryUrl": "https://github.com/harbor-works/tide-tables",
                "headRepository": "harbor-works/tide-tables",
                "createdAt": "2026-03-09T07:58:36Z",
                "updatedAt": "2026-03-09T08:15:52Z",
                "completedAt": "2026-03-09T08:15:52Z",
            },
            meta={"deliveryId": "d-1"},
        )
    ] == normalise(recorded("workflow_run.completed"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("workflow_run.requested", "workflow_run"),
        ("workflow_run.in_progress", "workflow_run"),
        ("ping", "ping"),
        ("workflow_run.completed", "check_run"),
        ("workflow_run.completed", None),
    ],
)
def test_other_deliveries_are_no_events(name: str, kind: str | None):
    assert [] == normalise(recorded(name), kind)


def test_a_published_package_is_an_event_of_a_family_that_a_registry_may_name():
    [event] = normalise(recorded("package.published"), "package")

    assert ("github/package.published", "github-package-published-d-1") == (event.name, event.id)
    assert {"packageName": "tide-tables", "ecosystem": "CONTAINER", "sender": "mira-lindqvist"}.items() <= (
        event.data.items()
    )


def test_what_github_leaves_out_or_null_is_empty_text_or_null():
    [event] = normalise({"action": "completed", "workflow_run": {"id": 7, "conclusion": None}}, delivery=None)

    assert "github-workflow-run-completed-no-delivery-7" == event.id
    numbers = {"runNumber", "runAttempt", "workflowId"}
    given = {"action": "completed", "deliveryId": "no-delivery", "runId": 7}
    assert given.items() <= event.data.items()
    assert dict.fromkeys(numbers) == {name: event.data[name] for name in numbers}
    assert {""} == {value for name, value in event.data.items() if name not in numbers | set(given)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("workflow_run.completed", "workflow_run"), ("package.published", "package"), ("ping", "ping")],
)
def test_a_glance_at_a_delivery_sees_all_that_is_read_of_it(name: str, kind: str):
    headers = Headers({"x-github-event": kind, "x-github-delivery": "d-1"})
    github = GitHub()

    seen = github.glance(payload(name))

    assert github.normalise(recorded(name), headers) == github.normalise(seen, headers)
    assert len(json.dumps(seen)) < 2_000


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"action": "completed", "workflow_run": []}', b'{"a": "\\ud800"}', b'{"a": "\xff"}'],
)
def test_a_glance_at_something_unusual_says_so(body: bytes):
    with pytest.raises(ValueError):  # pydantic words the reason, and nobody reads it
        GitHub().glance(body)


@pytest.mark.parametrize(
    "run", [None, [], "x", {}, {"id": "7"}, {"id": True}, {"id": 0}, {"id": -7}, {"id": 1.5}]
)
def test_a_run_without_a_usable_id_makes_no_sense(run: object):
    with pytest.raises(ValueError, match=r"workflow_run\.id"):
        normalise({"action": "completed", "workflow_run": run})


@pytest.mark.parametrize("odd", [None, 5, "text", ["list"]])
def test_parts_of_an_odd_shape_count_as_left_out(odd: object):
    body = recorded("workflow_run.completed") | {"workflow": odd, "repository": odd, "sender": odd}
    body["workflow_run"] |= {"actor": odd, "head_repository": odd, "name": odd if odd != "text" else None}

    [event] = normalise(body)

    assert {"workflowId": 66120345, "workflowName": "", "repository": "", "actorLogin": ""}.items() <= (
        event.data.items()
    )


@pytest.mark.parametrize("delivery", ["a b", "a/b", "a\tb", "é", "x" * 101, "{jc}:*"])
def test_a_delivery_id_that_is_none_does_not_become_part_of_an_event_id(delivery: str):
    with pytest.raises(ValueError, match="X-GitHub-Delivery"):
        normalise(recorded("workflow_run.completed"), delivery=delivery)
