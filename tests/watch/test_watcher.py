"""The watcher alone: which files are told when, whatever they are, and what a restart knows."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

from joelclaw_tasks.core.store import Store
from joelclaw_tasks.emit import Emitter
from joelclaw_tasks.errors import CoreUnreachable, InvalidEvent, WatchRefused, WatchRunning
from joelclaw_tasks.registry import Registry
from joelclaw_tasks.settings import Settings
from joelclaw_tasks.watch.run import roots_of
from joelclaw_tasks.watch.state import WatchState, hold
from tests.watch.conftest import QUIET_S, Desk


def test_a_change_is_told_once_with_the_hash_of_the_content(desk: Desk) -> None:
    file = desk.write("adr/0001-a.md", "# A\n")

    assert ["adr/0001-a.md"] == desk.settle(file)

    assert {
        "path": "adr/0001-a.md",
        "source": "watch",
        "sha256": hashlib.sha256(b"# A\n").hexdigest(),
    } == desk.told[0].data
    assert [] == desk.settle(file)


def test_a_file_is_told_when_it_was_quiet_not_while_it_is_written(desk: Desk) -> None:
    desk.settle()
    file = desk.write("a.md", "# A")
    assert [] == desk.settle(file, passes_s=QUIET_S / 2)
    desk.write("a.md", "# A and more")

    assert [] == desk.settle(file, passes_s=QUIET_S / 2)
    assert ["a.md"] == desk.settle()

    assert hashlib.sha256(b"# A and more").hexdigest() == desk.told[0].data["sha256"]


def test_what_is_saved_unchanged_is_not_told(desk: Desk) -> None:
    file = desk.write("a.md")
    desk.settle(file)
    os.utime(file, (1, 1))

    assert [] == desk.settle(file)

    assert (1, 1) == (desk.watcher.counts.emitted, desk.watcher.counts.unchanged)


def test_an_atomic_save_tells_the_file_and_never_the_partial_one(desk: Desk) -> None:
    file = desk.write("a.md", "old")
    desk.settle(file)
    partial = desk.write(".a.md.tmp", "new")
    partial.replace(file)

    assert ["a.md"] == desk.settle(partial, file)

    assert hashlib.sha256(b"new").hexdigest() == desk.told[-1].data["sha256"]


def test_a_renamed_file_is_deleted_under_its_old_name_and_told_under_the_new_one(desk: Desk) -> None:
    file = desk.write("a.md")
    desk.settle(file)

    assert ["a.md", "b.md"] == desk.settle(file, file.rename(desk.root / "b.md"))

    deleted = {event.data["path"]: event.data.get("deleted", False) for event in desk.told[1:]}
    assert {"a.md": True, "b.md": False} == deleted


def test_a_renamed_folder_is_looked_into_though_the_system_names_only_the_folder(desk: Desk) -> None:
    desk.settle(desk.write("old/a.md"), desk.write("old/b.md"))
    (desk.root / "old").rename(desk.root / "new")
    desk.settle(desk.root / "old", desk.root / "new")

    desk.settle()

    assert ["new/a.md", "new/b.md", "old/a.md", "old/b.md"] == sorted(
        event.data["path"] for event in desk.told[2:]
    )


def test_a_file_that_comes_back_as_it_was_is_a_new_event(desk: Desk) -> None:
    for text in ("one", "two", "one"):
        desk.settle(desk.write("a.md", text))
    file = desk.root / "a.md"
    file.unlink()
    desk.settle(file)
    desk.settle(desk.write("a.md", "one"))

    assert 5 == len({event.id for event in desk.told}) == len(desk.told)


def test_a_start_tells_what_changed_came_and_went_meanwhile(desk: Desk) -> None:
    for name in ("same", "changed", "gone"):
        desk.settle(desk.write(f"{name}.md"))
    desk.write("changed.md", "# Another\n")
    desk.write("new.md")
    (desk.root / "gone.md").unlink()
    desk.begin()

    assert ["changed.md", "gone.md", "new.md"] == desk.settle()


def test_killed_between_emitting_and_saving_the_same_event_is_a_duplicate(
    desk: Desk, redis_url: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, redis_url=redis_url)
    emitter = Emitter(settings, Registry.load(settings.registry_dir), Store.connect(settings))
    receipts = []
    desk.settle()

    def emit_and_die(events):
        receipts.extend(emitter.emit_many(events))
        raise MemoryError("killed")

    desk.emit_many = emit_and_die
    with pytest.raises(MemoryError):
        desk.settle(desk.write("a.md"))
    desk.emit_many = lambda events: receipts.extend(emitter.emit_many(events))
    desk.begin()
    desk.settle()
    desk.settle(desk.write("a.md", "# Another\n"))
    emitter.store.client.close()

    assert ["admitted", "duplicate", "admitted"] == [receipt.jobs[0].decision for receipt in receipts]


def test_while_redis_is_away_nothing_is_lost_and_one_line_says_so(desk: Desk) -> None:
    desk.settle()
    desk.fault = CoreUnreachable("Redis does not answer")
    file = desk.write("a.md", "one")
    desk.settle(file)
    for _ in range(3):
        desk.settle(desk.write("a.md", "two"), desk.write("b.md"), passes_s=6)
    assert [] == desk.told
    assert 2 == desk.watcher.counts.waiting
    desk.fault = None

    assert ["a.md", "b.md"] == desk.settle(passes_s=6)

    assert hashlib.sha256(b"two").hexdigest() == desk.told[0].data["sha256"]
    assert [
        "waits for Redis, which does not take events: Redis does not answer",
        "Redis takes events again",
    ] == (desk.said)


def test_an_event_that_is_refused_keeps_no_other_back(desk: Desk) -> None:
    desk.settle()

    def refuse(events):
        for position, event in enumerate(events):
            if event.data["path"] == "bad.md":
                error = InvalidEvent("it is refused")
                error.position = position
                raise error

    desk.emit_many = refuse

    assert ["a.md", "c.md"] == desk.settle(*(desk.write(f"{name}.md") for name in ("a", "bad", "c")))
    assert {str(desk.root / "bad.md"): "it is refused"} == desk.watcher.counts.problems


def test_loops_pipes_sockets_and_what_leads_out_are_passed_over_with_a_word(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "secret.md").write_text("outside")
    (desk.root / "loop.md").symlink_to("loop.md")
    (desk.root / "folder").mkdir()
    (desk.root / "folder" / "again").symlink_to(desk.root)
    (desk.root / "out.md").symlink_to(tmp_path / "secret.md")
    os.mkfifo(desk.root / "pipe.md")
    (desk.root / "dir.md").mkdir()
    (desk.root / os.fsdecode(b"latin-\xe9.md")).write_text("x")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(os.path.relpath(desk.root / "socket.md"))
        desk.write("folder/a.md")

        assert ["folder/a.md"] == desk.settle()
        desk.settle(passes_s=60)  # said once, not at every look

    assert {
        "loop.md": "too many levels of symbolic links",
        "out.md": "it is a link that leads out of the folder",
        "pipe.md": "it is not a file",
        "socket.md": "no such device or address",
        os.fsdecode(b"latin-\xe9.md"): "its name is not UTF-8",
    } == {Path(path).name: why for path, why in desk.watcher.counts.problems.items()}
    assert 5 == len(desk.said)
    assert not any("\udce9" in line for line in desk.said)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_what_may_not_be_read_is_no_deletion_and_is_told_when_it_may(desk: Desk) -> None:
    shut = desk.write("shut/b.md")
    desk.settle(shut)
    file = desk.write("a.md")
    file.chmod(0)
    shut.parent.chmod(0)
    above = [each for each in desk.root.parents if each.stat().st_mode & 0o011 != 0o011]
    modes = [(each, each.stat().st_mode & 0o7777) for each in above]
    for each, mode in modes:
        each.chmod(mode | 0o011)
    os.seteuid(65_534)
    try:
        told = desk.settle(file, shut, passes_s=60)
        told += desk.settle()
        problems = dict(desk.watcher.counts.problems)
    finally:
        os.seteuid(0)
        for each, mode in modes:
            each.chmod(mode)
    file.chmod(0o644)
    shut.parent.chmod(0o755)

    assert [] == told
    assert {str(file): "permission denied", str(shut): "permission denied"} == problems
    assert ["a.md"] == desk.settle(file, shut)
    assert {} == desk.watcher.counts.problems


def test_content_that_is_no_text_or_too_large_is_told_and_not_read(desk: Desk) -> None:
    with desk.write("large.md", b"").open("wb") as stream:
        stream.truncate(50_000_000)
    files = [
        desk.root / "large.md",
        desk.write("latin.md", b"caf\xe9"),
        desk.write("yaml.md", "---\na: [\n---\n"),
    ]
    began = time.monotonic()

    assert ["large.md", "latin.md", "yaml.md"] == desk.settle(*files)

    assert time.monotonic() - began < 1


def test_a_folder_that_was_unmounted_is_not_deleted(desk: Desk) -> None:
    for number in range(12):
        desk.write(f"{number}.md")
    desk.settle()
    told = len(desk.told)
    shutil.rmtree(desk.root)
    desk.settle(*(desk.root / f"{number}.md" for number in range(12)), passes_s=60)
    desk.root.mkdir()
    desk.settle(passes_s=60)
    assert told == len(desk.told)
    desk.write("0.md", "# Another\n")
    desk.settle(passes_s=60)

    desk.settle()

    assert "0.md" in {event.data["path"] for event in desk.told[told:]}
    assert any("cannot be watched" in line for line in desk.said)


def test_ten_thousand_files_are_told_once_and_looked_at_quickly(desk: Desk) -> None:
    for folder in range(100):
        (desk.root / str(folder)).mkdir()
        for number in range(100):
            (desk.root / str(folder) / f"{number}.md").write_text(f"# {folder} {number}\n")
    began = time.monotonic()
    desk.watcher.step()
    while not desk.watcher.is_settled:
        desk.now_s += 1
        desk.watcher.step()
    first_s = time.monotonic() - began
    desk.begin()
    began = time.monotonic()

    assert [] == desk.settle()

    print(f"first {first_s:.2f} s, again {time.monotonic() - began:.2f} s")
    assert 10_000 == len({event.id for event in desk.told}) == len(desk.told)
    assert {"P3"} == {event.priority for event in desk.told}
    assert time.monotonic() - began < 5


def test_a_state_that_cannot_be_read_is_put_aside_and_all_is_told_again(desk: Desk) -> None:
    desk.settle(desk.write("a.md"))
    desk.state.close()
    (desk.folder / "state.sqlite3").write_bytes(b"no database" * 1_000)
    desk.begin()

    assert ["a.md"] == desk.settle()

    assert 2 == len({event.id for event in desk.told})
    assert (desk.folder / "state.broken").exists()


def test_files_that_are_gone_for_long_are_forgotten(desk: Desk) -> None:
    file = desk.write("a.md")
    desk.settle(file, desk.write("b.md"))
    file.unlink()
    desk.settle(file)
    desk.state.forget_gone(60)
    assert 2 == len(desk.state.rows)

    desk.state.forget_gone(-60)

    assert [str(desk.root / "b.md")] == list(desk.state.rows)


def test_a_home_has_one_watcher(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(WatchRunning):
        hold(tmp_path).__enter__()

    with hold(tmp_path):
        WatchState(tmp_path).close()


def test_only_folders_that_the_workers_validate_are_watched(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    content = home / "data" / "content"
    for folder in (content / "adr", other):
        folder.mkdir(parents=True)
    settings = Settings(home=home)

    assert {content: content} == roots_of(settings)
    assert {content / "adr": content} == roots_of(settings, [content / "adr"])
    assert {other: None} == roots_of(Settings(home=home, watch_dirs=str(other)))
    for refused in (other, tmp_path / "nowhere"):
        with pytest.raises(WatchRefused):
            roots_of(settings, [refused])
