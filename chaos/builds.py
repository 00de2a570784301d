"""Builds: the product, broken on purpose, to prove that the checker sees it. Workers of a run only."""

from __future__ import annotations

import hashlib

#: Name: text of the scripts, and what stands there instead.
_LUA: dict[str, tuple[str, str]] = {
    "no-fencing": (' and job.state == "executing" and tag_of(job) == tag', ' and job.state == "executing"'),
    "limit-off-by-one": ("return limit - redis.call(", "return limit + 1 - redis.call("),
    "newest-first": ('ZRANGE", lane_key(lane_name), 0, 0,', 'ZRANGE", lane_key(lane_name), -1, -1,'),
    "pause-ignored": ('redis.call("HEXISTS", pauses_key, gate) == 1 and 0', "false and 0"),
}
BUILDS = (*_LUA, "ack-before-run")


def break_build(name: str) -> None:
    """Break the product in this process, before anything of it is used. Raises KeyError."""
    if name == "ack-before-run":
        from joelclaw_tasks.broker import install

        install.REQUIRED["task_acks_late"] = (False, "this build is broken on purpose")
        return
    from joelclaw_tasks.core import caller
    from joelclaw_tasks.core.keys import write_keys
    from joelclaw_tasks.core.scripts import load_source, script_names

    old, new = (write_keys(text) for text in _LUA[name])
    sources = {script: load_source(script) for script in script_names()}
    broken = {script: source.replace(old, new) for script, source in sources.items() if old in source}
    if not broken:
        raise RuntimeError(f"build {name}: the text that it breaks is not in the scripts any more")
    for script, source in broken.items():
        caller._SOURCES[script] = source
        caller._SHAS[script] = hashlib.sha1(source.encode()).hexdigest()
