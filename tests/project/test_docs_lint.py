"""The document linter finds broken links, long readmes, odd pins, home paths and secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.lint_docs import Fault, lint, project_files


@pytest.fixture
def check(tmp_path: Path):
    def check(**files: str) -> list[Fault]:
        paths = []
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_md", ".md").replace("_txt", ".txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            paths.append(path)
        return lint(tmp_path, paths)

    return check


def test_links_to_files_and_headings_that_exist_are_fine(check):
    readme = (
        "# Start here\n[a](docs/a.md), [b](docs/a.md#two-words), [c](#start-here), [d](docs), "
        "[e](https://example.com/nowhere) and `[f](nowhere.md)`\n```\n[g](nowhere.md)\n```\n"
    )

    assert [] == check(docs__a_md="# A\n## Two words!\n", README_md=readme)


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("nowhere.md", "link nowhere.md leads nowhere"),
        ("../../etc/hosts", "link ../../etc/hosts leads out of the repository"),
        ("#nothing", "link #nothing: no heading makes the anchor #nothing"),
        ("docs/a.md#b", "link docs/a.md#b: no heading makes the anchor #b"),
    ],
)
def test_a_link_that_leads_nowhere_is_reported(check, link, fault):
    assert [Fault("README.md", 2, fault)] == check(docs__a_md="# A\n", README_md=f"# R\n[x]({link})\n")


def test_a_heading_twice_in_one_section_is_reported_but_not_in_two_sections(check):
    text = "# Log\n## 1\n### Added\n## 2\n### Added\n### Added\n"

    assert [Fault("a.md", 6, "heading 'Added' stands twice in the same section")] == check(a_md=text)


def test_a_readme_has_at_most_200_lines(check):
    assert [] == check(README_md="x\n" * 200)
    assert [Fault("README.md", 201, "has 201 lines; 200 is the most")] == check(README_md="x\n" * 201)


def test_pins_are_names_versions_and_hashes_only(check):
    good = "# runtime\ncelery==5.7.0 ; python_full_version < '3.13' \\\n    --hash=sha256:" + "0" * 64 + "\n"
    assert [] == check(constraints_txt=good)

    bad = "--index-url https://example.com/simple\ncelery>=5\n-e .\nx @ file:///x\n    # via celery\n"
    faults = check(constraints_txt=bad)

    assert [1, 2, 3, 4, 5] == [fault.line for fault in faults]
    assert {"is neither name==version nor a hash"} == {fault.text for fault in faults}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("see /ho" + "me/ada/notes", "a path into a home directory"),
        ("see /Us" + "ers/ada/notes", "a path into a home directory"),
        ("-----BEGIN RSA PRI" + "VATE KEY-----", "a private key"),
        ("sk-ant-" + "a" * 30, "a key of Anthropic"),
        ("ghp_" + "a" * 36, "a token of GitHub"),
    ],
)
def test_home_paths_and_secrets_are_reported(check, text, what):
    assert [Fault("notes.txt", 2, f"holds {what}")] == check(notes_txt=f"one\n{text}\n")


def test_project_files_are_those_that_git_has_or_would_take(tmp_path):
    for name in ("kept.md", "new.md", "ignored.md", "gone.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("ignored.md\n")
    names = ["--", "kept.md", "gone.md"]
    for command in (["init", "-q"], ["add", *names]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "gone.md").unlink()

    assert [".gitignore", "kept.md", "new.md"] == [path.name for path in project_files(tmp_path)]


def test_without_git_hidden_folders_are_passed_over(tmp_path):
    for name in ("a.md", ".venv/b.md", "docs/__pycache__/c.md", "docs/d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    assert ["a.md", "docs/d.md"] == [
        path.relative_to(tmp_path).as_posix() for path in project_files(tmp_path)
    ]
