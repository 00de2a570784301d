"""The fleet's Celery processes start as `celery` does, without what they never use."""

import subprocess
import sys

import pytest


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def commands(text: str) -> set[str]:
    _, _, listed = text.partition("Commands:")
    return {line.split()[0] for line in listed.splitlines() if line.strip()}


def test_it_has_every_command_of_celery_but_flower() -> None:
    own, celery = run("joelclaw_tasks.fleet.lean_celery", "--help"), run("celery", "--help")
    assert commands(celery.stdout) - commands(own.stdout) == {"flower"}
    assert commands(own.stdout) - commands(celery.stdout) == set()
    assert {"worker", "beat"} <= commands(own.stdout)


def test_the_command_that_is_asked_for_is_there_whoever_adds_it() -> None:
    own, celery = (
        run("joelclaw_tasks.fleet.lean_celery", "flower", "--help"),
        run("celery", "flower", "--help"),
    )
    options = celery.stdout.partition("Options:")[2]
    assert "--help" in options
    assert (0, options) == (own.returncode, own.stdout.partition("Options:")[2])


@pytest.mark.parametrize("arguments", [("-A", "no.such.app", "worker"), ("worker", "--no-such-option")])
def test_it_ends_with_the_exit_code_and_the_words_of_celery(arguments: tuple[str, ...]) -> None:
    own, celery = run("joelclaw_tasks.fleet.lean_celery", *arguments), run("celery", *arguments)
    assert own.returncode == celery.returncode != 0
    assert own.stderr.splitlines()[-1] == celery.stderr.splitlines()[-1]


def test_others_find_their_entry_points_and_modules_all_the_same() -> None:
    code = (
        "import sys, importlib.metadata as m; before = m.entry_points\n"
        "from joelclaw_tasks.fleet.lean_celery import main\n"
        "sys.argv = ['celery', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "import httpx\n"
        "print(m.entry_points is before, {'flower.command', 'prompt_toolkit'} & set(sys.modules))\n"
        "import click_repl\n"
        "print(click_repl.repl.__module__, httpx.Client.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["True set()", "click_repl._repl httpx"]
