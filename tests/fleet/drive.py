"""A fleet of small processes, run as `joelclaw up` runs the real one: python drive.py <home> <specs as JSON>.

Prints one line per event, and `all ready`; Redis is real, the others are what the test says.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from joelclaw_tasks.errors import FleetError
from joelclaw_tasks.fleet.home import FleetHome
from joelclaw_tasks.fleet.leftovers import end_leftovers
from joelclaw_tasks.fleet.process_spec import ProcessSpec
from joelclaw_tasks.fleet.processes import fleet_processes
from joelclaw_tasks.fleet.redis_server import prepare
from joelclaw_tasks.fleet.supervisor import Patience, Supervisor


class Printed:
    def line(self, name, text):
        print(f"{name} said {text}", flush=True)

    def event(self, name, what):
        print(f"{name} {what}", flush=True)


def specs_of(home: FleetHome, wanted: dict) -> list[ProcessSpec]:
    specs = []
    if wanted.get("redis"):
        redis = prepare(home.redis_dir, home.choose_ports({"redis": 0})["redis"])
        (home.path / "url").write_text(redis.url)
        specs += fleet_processes(redis=redis, ingress_port=1, flower_port=None, state_dir=home.path)[:1]
    for entry in wanted["processes"]:
        argv = entry.pop("argv", None) or [sys.executable, "-u", "-c", entry.pop("code")]
        specs.append(ProcessSpec(argv=tuple(argv), **{"stage": 1, **entry}))
    return specs


def main() -> int:
    home, wanted = FleetHome(Path(sys.argv[1])), json.loads(sys.argv[2])
    try:
        with home.hold():
            for name in end_leftovers(home.record_file):
                print(f"{name} left over", flush=True)
            supervisor = Supervisor(
                specs_of(home, wanted),
                logs_dir=home.logs_dir,
                record_file=home.record_file,
                env=os.environ,
                view=Printed(),
                patience=Patience(**{"restart_base_s": 0.05, **wanted.get("patience", {})}),
            )
            clean = asyncio.run(supervisor.run(lambda: print("all ready", flush=True)))
    except FleetError as error:
        print(f"refused: {error}", flush=True)
        return 3
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
