"""The log of a process: private, bounded, with its last words at hand."""

import stat

from joelclaw_tasks.fleet.process_log import ProcessLog


def test_lines_are_appended_across_restarts_of_the_fleet(tmp_path):
    for line in ("one", "two"):
        log = ProcessLog(tmp_path / "worker.log")
        log.write(line)
        log.close()
    assert (tmp_path / "worker.log").read_text() == "one\ntwo\n"
    assert stat.S_IMODE((tmp_path / "worker.log").stat().st_mode) == 0o600


def test_it_never_takes_more_than_about_twice_its_cap(tmp_path):
    log = ProcessLog(tmp_path / "worker.log", max_bytes=1_000)
    for number in range(1_000):
        log.write(f"line {number}")
    log.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"worker.log", "worker.log.1"}
    assert all(size <= 1_020 for size in sizes.values())
    kept = (tmp_path / "worker.log.1").read_text() + (tmp_path / "worker.log").read_text()
    assert kept.splitlines()[-1] == "line 999"
    numbers = [int(line.split()[1]) for line in kept.splitlines()]
    assert numbers == list(range(numbers[0], 1_000))


def test_text_that_cannot_be_encoded_is_no_reason_to_fail(tmp_path):
    log = ProcessLog(tmp_path / "worker.log")
    log.write("lone \ud800 surrogate")
    log.close()
    assert (tmp_path / "worker.log").read_text() == "lone ? surrogate\n"


def test_the_last_lines_are_kept_for_the_error(tmp_path):
    log = ProcessLog(tmp_path / "worker.log")
    for number in range(100):
        log.write(str(number))
    log.close()
    assert list(log.tail) == [str(number) for number in range(88, 100)]
