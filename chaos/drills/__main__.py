"""`python -m chaos.drills <name>`: run a drill, print how it goes, and its figures as JSON in the last line.

Exits with 1 when a promise did not hold. The history and the logs of all processes stay in `--keep`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from chaos.drills.busy import busy
from chaos.drills.kills import kills
from chaos.drills.outcome import Outcome, Say
from chaos.drills.resume import Clients, resume
from chaos.drills.rolling import rolling
from chaos.fleet import Fleet

Act = Callable[[Fleet, argparse.Namespace, Say], Outcome]
DRILLS: dict[str, tuple[type[Fleet], Act]] = {
    "kills": (Fleet, lambda fleet, options, say: kills(fleet, options.kills, say)),
    "rolling": (Fleet, lambda fleet, options, say: rolling(fleet, options.rounds, say)),
    "busy": (Fleet, lambda fleet, options, say: busy(fleet, options.minutes, say)),
    "resume": (Clients, lambda fleet, options, say: resume(fleet, options.away, say)),
}


def main() -> int:
    """Run one drill; 0 when all that it judges held."""
    options = _options()
    os.environ["CHAOS_DEFAULT_TIMEOUTS"] = "1"
    home = options.keep / f"drill-{options.drill}"
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        if old.is_file():
            old.unlink()
    kind, act = DRILLS[options.drill]
    fleet = kind(home, seed=options.seed, rate=options.rate, lease_ms=options.lease_ms)
    try:
        outcome = act(fleet, options, _say)
    finally:
        fleet.close()
    for sentence in outcome.broken:
        _say(f"broken: {sentence}")
    print(json.dumps(outcome.to_wire()))
    return 1 if outcome.broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.drills", description=__doc__)
    parser.add_argument("drill", choices=DRILLS)
    parser.add_argument("--kills", type=int, default=200, help="of `kills`")
    parser.add_argument("--rounds", type=int, default=20, help="of `rolling`: restarts of each worker")
    parser.add_argument("--minutes", type=float, default=10.0, help="of `busy`")
    parser.add_argument(
        "--away", type=_seconds, default=(1.0, 5.0, 15.0, 30.0), help="of `resume`: seconds, by comma"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=20.0, help="jobs a second")
    parser.add_argument("--lease-ms", type=int, default=15_000)
    parser.add_argument("--keep", type=Path, default=Path(".chaos"), help="directory for histories and logs")
    return parser.parse_args()


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
