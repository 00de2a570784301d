"""A prompt file is checked when it is loaded, and rendered to the byte."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import pytest

from joelclaw_tasks.errors import PromptError
from joelclaw_tasks.intelligence.prompt import Prompt


class RouteCheck(StrEnum):
    CONFIRM = "confirm"
    MISMATCH = "mismatch"


LISTS = {"route_checks": RouteCheck}
HEAD = "name: triage\nversion: 3\nlists: [route_checks]\nvariables: [events, note]"
FIXED = "Answer one of {{list route_checks}}."
PER_CALL = "Events: {{events}}\nNote: {{ note }}\nAgain: {{events}}"


def a_file(head: str = HEAD, fixed: str = FIXED, per_call: str = PER_CALL) -> str:
    return f"---\n{head}\n---\n\n{fixed}\n\n<!-- per call -->\n\n{per_call}\n"


def test_closed_lists_are_filled_in_from_the_enum_and_variables_from_the_call():
    prompt = Prompt(a_file(), LISTS, source="triage.md")

    rendered = prompt.render(events="[1]", note="none")

    assert "Answer one of `confirm`, `mismatch`." == rendered.fixed
    assert "Events: [1]\nNote: none\nAgain: [1]" == rendered.per_call
    assert ("triage", 3, "triage v3") == (rendered.name, rendered.version, rendered.label)


def test_what_a_variable_says_is_never_read_as_a_hole():
    prompt = Prompt(a_file(), LISTS, source="triage.md")

    rendered = prompt.render(events="{{note}} {{list route_checks}} \\1", note="secret")

    assert rendered.per_call.startswith("Events: {{note}} {{list route_checks}} \\1\n")


def test_the_hash_is_of_the_prompt_and_not_of_the_call():
    prompt = Prompt(a_file(), LISTS, source="triage.md")
    other = Prompt(a_file(fixed=FIXED + " Be brief."), LISTS, source="triage.md")
    listed = Prompt(a_file(), {"route_checks": ["confirm"]}, source="triage.md")

    hashes = [prompt.render(events=text, note="").sha256 for text in "ab"]

    assert [prompt.sha256] * 2 == hashes
    assert 3 == len({prompt.sha256, other.sha256, listed.sha256})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("no front matter", "has no front matter"),
        (a_file(head="name: [triage"), "is not YAML"),
        (a_file(head="- a"), "needs name, as str"),
        (a_file(head=HEAD.replace("version: 3", "version: three")), "needs version, as int"),
        (a_file(head=HEAD + "\nauthor: eve"), "unknown field 'author'"),
        (a_file(head=HEAD.replace("[events, note]", "[events, Note]")), "has 'Note' among its variables"),
        (a_file(head=HEAD.replace("[route_checks]", "[]")), "names the lists none, but the code gives"),
        (
            a_file(per_call=PER_CALL + "{{families}}"),
            "has {{families}}, which its front matter does not name",
        ),
        (a_file(per_call="Events: {{events}}"), "never uses note"),
        (a_file(fixed="Nothing closed."), "never uses route_checks"),
        (a_file(fixed=FIXED + " {{events}}"), "has {{events}} in its fixed part"),
        (a_file(fixed=FIXED + " {{list rote_checks}}"), "has {{list rote_checks}}, which"),
        (a_file(per_call=PER_CALL + " {{events"), "has {{ without }}"),
        (a_file(fixed=""), "needs two parts with text"),
        (a_file().replace("<!-- per call -->", ""), "needs two parts with text"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_when_it_is_loaded(text: str, wrong: str):
    with pytest.raises(PromptError) as caught:
        Prompt(text, LISTS, source="prompts/triage.md")

    assert str(caught.value).startswith("prompts/triage.md ")
    assert wrong in str(caught.value)


@pytest.mark.parametrize("variables", [{}, {"events": ""}, {"events": "", "note": "", "more": ""}])
def test_a_variable_that_is_missing_or_unknown_is_an_error(variables: dict[str, str]):
    prompt = Prompt(a_file(), LISTS, source="triage.md")

    with pytest.raises(PromptError, match="has the variables events, note"):
        prompt.render(**variables)


def test_a_file_has_the_name_of_its_prompt(tmp_path: Path):
    (tmp_path / "triage.md").write_text(a_file())
    (tmp_path / "other.md").write_text(a_file())

    assert 3 == Prompt.load("triage", LISTS, directory=tmp_path).version
    with pytest.raises(PromptError, match="its name is 'triage'"):
        Prompt.load("other", LISTS, directory=tmp_path)
    with pytest.raises(PromptError, match=r"prompts/none.md cannot be read"):
        Prompt.load("none", directory=tmp_path)
