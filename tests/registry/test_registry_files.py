"""What is wrong with a registry is said at once: every fault, its file, its field, what to do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from joelclaw_tasks.core.spec import (
    ConcurrencySpec,
    EventSpec,
    HandlerSpec,
    RateSpec,
    ResourceSpec,
    RestateSpec,
    RetrySpec,
    ShareSpec,
)
from joelclaw_tasks.errors import RegistryError
from joelclaw_tasks.registry import Registry
from tests.registry.conftest import RegistryDirectory, a_handler, an_event

FILE = "events/mail-received.json"


def test_a_file_in_order_becomes_specs_with_defaults_filled_in(directory: RegistryDirectory) -> None:
    directory.write("resources.json", {"nas": {"limit": 2, "description": "Disks."}})
    directory.write_handler(
        concurrency=[{"limit": 4}, {"limit": 1, "key": "data.path"}],
        resources=["nas"],
        retries={"max": 5, "base_s": 1},
        timeout_s=20,
    )
    registry = directory.load()
    handler = HandlerSpec(
        name="mail.send",
        type="task",
        target="os.path:join",
        queue="io",
        concurrency=(ConcurrencySpec(4), ConcurrencySpec(1, "data.path")),
        resources=(ResourceSpec("nas"),),
        retries=RetrySpec(max=5, base_s=1.0, cap_s=300.0),
        timeout_s=20.0,
    )
    assert {"mail/received": EventSpec("mail/received", "A mail came in.", 2, (handler,))} == dict(
        registry.events
    )
    assert {"mail.send": handler} == dict(registry.handlers)
    assert dict(registry.resources) == {"nas": 2}
    assert frozenset({"io"}) == registry.queues


def test_a_handler_without_a_queue_goes_to_default(directory: RegistryDirectory) -> None:
    handler = a_handler()
    del handler["queue"]
    directory.write_event(handlers=[handler])
    assert directory.load().handler("mail.send").queue == "default"


RESTATE_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"service": "a b"}, 'restate.service: "a b" is no name in Restate; use letters, digits and _ . -'),
    ({"handler": "../admin"}, 'restate.handler: "../admin" is no name in Restate;'),
    ({"handler": None}, 'restate: has no "handler"; add it'),
    ({"key": "user"}, "restate.key: \"user\" reads 'user', which no event has;"),
    ({"key": "data.user", "workflow": True}, "restate: key and workflow contradict:"),
    ({"mode": "wait"}, 'restate.mode: must be "send" or "call", not "wait"'),
    ({"input": "all"}, 'restate.input: must be "data", "event" or "none", not "all"'),
    ({"deadline_s": 9}, "restate: deadline_s belongs to a call, and a send waits for nothing;"),
    ({"mode": "call", "delay_s": 3600}, "restate: delay_s (3600) is not less than deadline_s (3600):"),
    ({"delay": 5}, 'restate.delay: is not a known field; did you mean "delay_s"?'),
    ({"delay_s": 0}, "restate.delay_s: must be at least 0.001, not 0"),
]


def a_restate_handler(**changes: Any) -> dict[str, Any]:
    """The JSON form of a handler of type restate that is in order, with changes to what it invokes."""
    called = {"service": "Mail", "handler": "send"} | changes
    return {"name": "mail.send", "type": "restate", "restate": called, "queue": "io"}


@pytest.mark.parametrize(("changes", "fault"), RESTATE_FAULTS)
def test_a_fault_of_what_restate_is_to_run_names_file_field_and_remedy(
    directory: RegistryDirectory, changes: dict[str, Any], fault: str
) -> None:
    directory.write_event(handlers=[a_restate_handler(**changes)])
    faults = directory.faults()
    assert 1 == len(faults), faults
    assert faults[0].startswith(f"{FILE}: handlers[0].{fault}")


def test_a_handler_of_type_restate_says_what_restate_runs(directory: RegistryDirectory) -> None:
    directory.write_event(handlers=[a_restate_handler(key="data.to", delay_s=1.5)])
    handler = directory.load().handler("mail.send")
    assert ("restate", "Mail/send") == (handler.type, handler.target)
    assert RestateSpec("Mail", "send", key="data.to", delay_ms=1_500) == handler.restate


def test_a_workflow_runs_its_handler_run(directory: RegistryDirectory) -> None:
    directory.write_event(
        handlers=[a_restate_handler(handler=None, workflow=True, mode="call", deadline_s=9)]
    )
    expected = RestateSpec("Mail", "run", workflow=True, mode="call", deadline_ms=9_000)
    assert expected == directory.load().handler("mail.send").restate


def test_a_handler_of_type_restate_has_no_target_and_no_batch(directory: RegistryDirectory) -> None:
    wrong = a_restate_handler() | {"target": "os.path:join", "batch": {"size": 2, "max_wait_s": 1}}
    directory.write_event(handlers=[wrong])
    assert [
        f'{FILE}: handlers[0].target: does not belong to a handler of type "restate"; remove it'
    ] == directory.faults()
    del wrong["target"]
    directory.write_event(handlers=[wrong])
    [fault] = directory.faults()
    assert fault.startswith(f"{FILE}: handlers[0]: batch and restate contradict: Restate is called once")


HANDLER_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"queue": 5}, 'handlers[0].queue: must be a text in double quotes, such as "text", not 5'),
    ({"queue": "a=b"}, 'handlers[0].queue: "a=b" is not a name; use 1 to 120 letters, digits and'),
    ({"name": "a\nb"}, 'handlers[0].name: "a\\nb" is not a name;'),
    ({"name": "a" * 121}, f'handlers[0].name: "{"a" * 76}... is not a name;'),
    ({"name": ""}, 'handlers[0].name: "" is not a name;'),
    ({"type": "http", "target": "https://x"}, 'handlers[0].type: "http" cannot be run by this version'),
    ({"type": "inngest"}, 'handlers[0].type: "inngest" cannot be run by this version'),
    ({"type": "lambda"}, 'handlers[0].type: must be "task" or "restate", not "lambda"'),
    ({"target": None}, "handlers[0].target: is missing; add it"),
    (
        {"restate": {"service": "Mail", "handler": "send"}},
        'handlers[0].restate: does not belong to a handler of type "task"; remove it',
    ),
    (
        {"target": "os.path.join"},
        'handlers[0].target: "os.path.join" is not a target; write package.module:function',
    ),
    ({"target": "os:path.join"}, 'handlers[0].target: "os:path.join" is not a target'),
    ({"target": "os:join\n"}, 'handlers[0].target: "os:join\\n" is not a target'),
    ({"concurrency": [{"limit": 0}]}, "handlers[0].concurrency[0].limit: must be at least 1, not 0"),
    (
        {"concurrency": [{"limit": True}]},
        "handlers[0].concurrency[0].limit: must be a whole number, not true",
    ),
    ({"concurrency": [{"limit": 1.5}]}, "handlers[0].concurrency[0].limit: must be a whole number, not 1.5"),
    ({"concurrency": [{"limit": "4"}]}, 'handlers[0].concurrency[0].limit: must be a whole number, not "4"'),
    ({"concurrency": [{}]}, "handlers[0].concurrency[0].limit: is missing; add it"),
    ({"concurrency": {"limit": 1}}, 'handlers[0].concurrency: must be a list in [ ], not {"limit": 1}'),
    (
        {"concurrency": [{"limit": 1}, {"limit": 2}]},
        "handlers[0].concurrency[1]: is a second limit without a key; keep one",
    ),
    (
        {"concurrency": [{"limit": 1, "key": "id"}, {"limit": 2, "key": "id"}]},
        'handlers[0].concurrency[1]: is a second limit with the key "id"; keep one',
    ),
    (
        {"resources": ["nass"]},
        'handlers[0].resources[0]: "nass" is not in resources.json; did you mean "nas"?',
    ),
    ({"resources": ["gpu"]}, 'handlers[0].resources[0]: "gpu" is not in resources.json; known here: nas'),
    ({"resources": ["nas", "nas"]}, 'handlers[0].resources[1]: names "nas" a second time; remove one'),
    (
        {"concurrency": [{"limit": 2, "weight": 3}]},
        "handlers[0].concurrency[0]: weight (3) is more than limit (2): no job could ever start;",
    ),
    (
        {"resources": [{"name": "nas", "weight": 3}]},
        'handlers[0].resources[0]: weight (3) is more than the limit of "nas" (2): no job could ever start;',
    ),
    ({"resources": [{"name": "nas"}]}, "handlers[0].resources[0].weight: is missing; add it"),
    (
        {"resources": [{"name": "nas", "wight": 1, "weight": 1}]},
        'handlers[0].resources[0].wight: is not a known field; did you mean "weight"?',
    ),
    (
        {"resources": ["nas", {"name": "nas", "weight": 1}]},
        'handlers[0].resources[1]: names "nas" a second time',
    ),
    ({"rate": [{"limit": 1}]}, "handlers[0].rate[0].period_s: is missing; add it"),
    ({"rate": [{"limit": 1, "period_s": 0}]}, "handlers[0].rate[0].period_s: must be at least 0.001, not 0"),
    (
        {"rate": [{"limit": 200_000, "period_s": 1}]},
        "handlers[0].rate[0]: is more than 100,000 starts a second, which no Redis can count;",
    ),
    (
        {"rate": [{"limit": 1, "period_s": 1}, {"limit": 2, "period_s": 1}]},
        "handlers[0].rate[1]: is a second rate without a key; keep one",
    ),
    ({"share": {}}, "handlers[0].share.key: is missing; add it"),
    ({"share": {"key": "tenant"}}, 'handlers[0].share.key: "tenant" reads'),
    (
        {"share": {"key": "data.t", "weights": {"a": 0}}},
        "handlers[0].share.weights.a: must be at least 1, not 0",
    ),
    ({"retries": {"max": -1}}, "handlers[0].retries.max: must be at least 0, not -1"),
    ({"retries": {"maxx": 1}}, 'handlers[0].retries.maxx: is not a known field; did you mean "max"?'),
    ({"retries": {"base_s": 400}}, "handlers[0].retries: cap_s (300) is less than base_s (400); raise cap_s"),
    ({"timeout_s": 0}, "handlers[0].timeout_s: must be more than 0, not 0"),
    ({"timeout_s": "1m"}, 'handlers[0].timeout_s: must be a number, not "1m"'),
    ({"timeout_s": 10**400}, "handlers[0].timeout_s: must be"),
    ({"queu": "io"}, 'handlers[0].queu: is not a known field; did you mean "queue"?'),
    ({"zzz": 1}, "handlers[0].zzz: is not a known field; known here: batch, cancel_on, concurrency,"),
]


def test_weights_rates_and_shares_become_specs(directory: RegistryDirectory) -> None:
    directory.write("resources.json", {"nas": {"limit": 2, "description": "Disks."}})
    directory.write_handler(
        concurrency=[{"limit": 4, "weight": 2}],
        resources=[{"name": "nas", "weight": 2}],
        rate=[{"limit": 100, "period_s": 10, "burst": 20}, {"limit": 1, "period_s": 0.5, "key": "data.path"}],
        share={"key": "data.tenant", "weights": {"b": 3, "a": 2}},
    )
    (handler,) = directory.load().handlers.values()
    assert (ConcurrencySpec(4, None, 2),) == handler.concurrency
    assert (ResourceSpec("nas", 2),) == handler.resources
    assert (RateSpec(100, 10_000, 20), RateSpec(1, 500, 1, "data.path")) == handler.rate
    assert ShareSpec("data.tenant", (("a", 2), ("b", 3)), 1) == handler.share


@pytest.mark.parametrize(("changes", "fault"), HANDLER_FAULTS)
def test_a_fault_of_a_handler_names_file_field_and_remedy(
    directory: RegistryDirectory, changes: dict[str, Any], fault: str
) -> None:
    directory.write("resources.json", {"nas": {"limit": 2, "description": "Disks."}})
    directory.write_handler(**changes)
    faults = directory.faults()
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{FILE}: {fault}"), faults[0]


KEY_FAULTS = [
    (
        "data.[",
        'handlers[0].concurrency[0].key: "data.[" is not a JMESPath expression (Incomplete expression)',
    ),
    ("data.'", "is not a JMESPath expression (Unclosed ' delimiter)"),
    ("", "handlers[0].concurrency[0].key: must not be empty"),
    ("a" * 501, "handlers[0].concurrency[0].key: is longer than 500 characters"),
    ("[" * 400, "is nested too deeply"),
    ("lower(data.path)", "calls lower(), which JMESPath does not have"),
    ("join(data.path)", "calls join() with 1 arguments; it takes 2"),
    ("not_null()", "calls not_null() with 0 arguments; it takes at least 1"),
    ("path", "reads 'path', which no event has; what an event carries is under data, so write data.path"),
    ("data.path || repo.name", "reads 'repo', which no event has"),
]


@pytest.mark.parametrize(("key", "fault"), KEY_FAULTS)
def test_a_key_that_can_never_work_is_refused(directory: RegistryDirectory, key: str, fault: str) -> None:
    directory.write_handler(concurrency=[{"limit": 1, "key": key}])
    faults = directory.faults()
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{FILE}: handlers[0].concurrency[0].key: ")
    assert fault in faults[0]


EVENT_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"priority": "P4"}, 'priority: must be one of "P0", "P1", "P2", "P3", not "P4"'),
    ({"priority": 2}, 'priority: must be one of "P0", "P1", "P2", "P3", not 2'),
    ({"description": ""}, "description: must not be empty"),
    ({"description": None}, 'description: must be a text in double quotes, such as "text", not null'),
    ({"protected": "no"}, 'protected: must be true or false, not "no"'),
    ({"handlers": []}, "handlers: must not be empty; add at least one"),
    (
        {"handlers": [a_handler(name=f"h{n}") for n in range(51)]},
        "handlers: has more than 50 entries; split it",
    ),
    ({"handlers": ["mail.send"]}, 'handlers[0]: must be an object in { }, not "mail.send"'),
    (
        {"handlers": [a_handler(), a_handler()]},
        'handlers[1].name: "mail.send" is already the name of a handler (',
    ),
    ({"handler": 1}, 'handler: is not a known field; did you mean "handlers"?'),
    ({"[key]": 1}, "[key]: is not a known field"),
    ({"description": "\ud800"}, "description: holds half a character (a lone surrogate)"),
]


@pytest.mark.parametrize(("changes", "fault"), EVENT_FAULTS)
def test_a_fault_of_an_event_names_file_field_and_remedy(
    directory: RegistryDirectory, changes: dict[str, Any], fault: str
) -> None:
    directory.write_event(**changes)
    faults = directory.faults()
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{FILE}: {fault}"), faults[0]


TEXT_FAULTS: list[tuple[bytes | str, str]] = [
    ("", "is not JSON at line 1, column 1: expecting value"),
    ('{\n  "name": "a",\n  oops\n}', "is not JSON at line 3, column 3: expecting property name"),
    ('{"name": "a"} trailing', "is not JSON at line 1, column 15: extra data"),
    ('{"priority": NaN}', "holds NaN, which is not JSON; write a number"),
    ('{"priority": -Infinity}', "holds -Infinity, which is not JSON; write a number"),
    ('{"priority": 1e999}', "holds the number 1e999, which is out of range; write a smaller one"),
    ('{"priority": ' + "9" * 5000 + "}", "holds a number that is too long"),
    ("[" * 100_000, "is nested too deeply; an event file has at most four levels"),
    (b'{"name": "caf\xe9"}', "is not UTF-8 text (byte 13); save it as UTF-8"),
    ("[]", "must be an object in { }, not []"),
    ("null", "must be an object in { }, not null"),
]


@pytest.mark.parametrize(("content", "fault"), TEXT_FAULTS, ids=[fault[:40] for _, fault in TEXT_FAULTS])
def test_a_file_that_is_no_json_object_says_so(
    directory: RegistryDirectory, content: bytes | str, fault: str
) -> None:
    directory.write(FILE, content)
    faults = directory.faults()
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"{FILE}: {fault}"), faults[0]


def test_a_field_written_twice_is_refused_and_not_silently_the_last_one(directory: RegistryDirectory) -> None:
    directory.write(
        FILE,
        '{"name": "mail/received", "description": "x", "priority": "P1", "priority": "P3", "handlers": '
        '[{"name": "mail.send", "type": "task", "target": "os.path:join"}]}',
    )
    assert [f'{FILE}: has the field "priority" twice in one object; keep one'] == directory.faults()


def test_a_byte_order_mark_is_no_fault(directory: RegistryDirectory) -> None:
    directory.write_event()
    path = directory.path / FILE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(directory.load().events) == ["mail/received"]


def test_three_faults_in_one_file_are_all_reported(directory: RegistryDirectory) -> None:
    directory.write_event(priority="high", handlers=[a_handler(queue="", concurrency=[{"limit": 0}])])
    faults = directory.faults()
    assert len(faults) == 3, faults
    assert {"priority", "handlers[0].queue", "handlers[0].concurrency[0].limit"} == {
        fault.split(": ")[1] for fault in faults
    }


def test_faults_of_two_files_and_of_resources_are_reported_together(directory: RegistryDirectory) -> None:
    directory.write("resources.json", {"nas": {"limit": 0, "description": "Disks."}})
    directory.write("events/broken.json", "{")
    directory.write_event(name="a/b", priority="P9", handlers=[a_handler(resources=["tape"])])
    faults = directory.faults()
    assert len(faults) == 4, faults
    assert "resources.json: nas.limit: must be at least 1, not 0" in faults
    assert any(fault.startswith("events/broken.json: is not JSON at line 1") for fault in faults)
    assert any(fault.startswith("events/a-b.json: priority: ") for fault in faults)
    assert any(fault.startswith('events/a-b.json: handlers[0].resources[0]: "tape"') for fault in faults)


RESOURCE_FAULTS: list[tuple[Any, str]] = [
    ({"n=s": {"limit": 1, "description": "x"}}, 'n=s: "n=s" is not a name;'),
    ({"nas": 2}, "nas: must be an object in { }, not 2"),
    ({"nas": {"limit": 1}}, "nas.description: is missing; add it"),
    (
        {"nas": {"limit": 1, "description": "x", "limits": 1}},
        'nas.limits: is not a known field; did you mean "limit"?',
    ),
    ([], "must be an object in { }, not []"),
]


@pytest.mark.parametrize(("content", "fault"), RESOURCE_FAULTS)
def test_a_fault_of_resources_is_named(directory: RegistryDirectory, content: Any, fault: str) -> None:
    directory.write("resources.json", content)
    directory.write_event()
    faults = directory.faults()
    assert len(faults) == 1, faults
    assert faults[0].startswith(f"resources.json: {fault}"), faults[0]


def test_a_broken_resources_file_is_not_followed_by_a_fault_for_each_use(
    directory: RegistryDirectory,
) -> None:
    directory.write("resources.json", "{")
    directory.write_handler(resources=["nas"])
    assert len(directory.faults()) == 1


def test_a_registry_without_resources_needs_no_resources_file(directory: RegistryDirectory) -> None:
    directory.write_event()
    assert dict(directory.load().resources) == {}


def test_an_event_defined_in_two_files_is_refused(directory: RegistryDirectory) -> None:
    directory.write_event()
    directory.write("events/zz.json", an_event(handlers=[a_handler(name="mail.other")]))
    assert [
        f'events/zz.json: name: "mail/received" is already defined in {FILE}; remove one of them'
    ] == directory.faults()


def test_a_handler_name_used_by_two_events_is_refused(directory: RegistryDirectory) -> None:
    directory.write_event()
    directory.write_event(name="mail/sent")
    (fault,) = directory.faults()
    assert (
        'events/mail-sent.json: handlers[0].name: "mail.send" is already the name of a handler '
        f"({FILE}: handlers[0].name); rename one"
    ) == fault


def test_a_file_that_is_not_named_after_its_event_is_refused(directory: RegistryDirectory) -> None:
    directory.write("events/mail.json", an_event())
    assert directory.faults() == [
        'events/mail.json: is the file of event "mail/received"; rename it to mail-received.json'
    ]


def test_a_missing_directory_says_which_setting_names_it(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        Registry.load(tmp_path / "nowhere")
    assert (
        f"{tmp_path / 'nowhere'}: is not a directory; set JOELCLAW_REGISTRY_DIR to the registry's directory",
    ) == caught.value.faults


def test_a_directory_without_event_files_is_refused(directory: RegistryDirectory) -> None:
    assert directory.faults() == ["events: holds no .json file; add one file for each event"]
    (directory.path / "events").rmdir()
    assert directory.faults() == ["events: holds no .json file; add one file for each event"]


def test_hidden_files_other_suffixes_and_directories_are_not_read(directory: RegistryDirectory) -> None:
    directory.write_event()
    for other in ("README.md", ".mail.json", "mail.json~", "mail.yaml"):
        directory.write(f"events/{other}", "not json")
    (directory.path / "events" / "old.json").mkdir()
    os.mkfifo(directory.path / "events" / "pipe.json")
    assert list(directory.load().events) == ["mail/received"]


def test_a_linked_file_is_read_and_a_link_to_nothing_is_a_fault(
    directory: RegistryDirectory, tmp_path: Path
) -> None:
    directory.write_event()
    path = directory.path / FILE
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert list(directory.load().events) == ["mail/received"]
    (tmp_path / "elsewhere.json").unlink()
    assert [f"{FILE}: cannot be read: No such file or directory"] == directory.faults()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_fault(directory: RegistryDirectory) -> None:
    directory.write_event()
    (directory.path / FILE).chmod(0)
    assert [f"{FILE}: cannot be read: Permission denied"] == directory.faults()


def test_a_fault_never_breaks_a_line_or_an_encoding(directory: RegistryDirectory) -> None:
    directory.write("events/x.json", '{"a\\u001b[31m\\ud800\\nb": 1}')
    for fault in directory.faults():
        assert fault.isprintable(), fault
        fault.encode("utf-8")


def test_loading_imports_no_handler(directory: RegistryDirectory) -> None:
    directory.write_handler(target="a_module_that_is_nowhere:run")
    assert directory.load().handler("mail.send").target == "a_module_that_is_nowhere:run"
    assert "a_module_that_is_nowhere" not in sys.modules
