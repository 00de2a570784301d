"""`python -m chaos`: harm a real fleet by a schedule that follows from `--seed`, and judge its history.

Prints one line for each fault and each violation, and the verdict as JSON in the last line. Exits with 1 when
something happened that must not. The history is kept as `history.jsonl` under `--keep`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

from chaos.builds import BUILDS
from chaos.faults import FAULTS, LONG
from chaos.round import Plan, Round
from chaos.verdict import Verdict

#: A round of `--minutes`: long enough for many mixed faults, short enough for a history that is read at once.
ROUND_S = 540.0
_ALONE_S = 215.0
_MOST_VIOLATIONS = 20
#: What shows each broken build.
_PROOFS = dict.fromkeys(BUILDS, ("flush-scripts", "kill-worker-tree")) | {
    "no-fencing": ("freeze-worker", "blackhole-worker")
}


def main() -> int:
    """Run and judge; 0 is green."""
    options = _options()
    if options.prove:
        return _prove(options)
    began_at, total, number = time.monotonic(), Verdict(), 0
    while True:
        plan = _plan(options, options.seed + number, options.minutes * 60 - (time.monotonic() - began_at))
        total.add(_judge(plan, options.keep))
        number += 1
        if not options.minutes or time.monotonic() - began_at > options.minutes * 60 - 60:
            break
    print(json.dumps(total.to_wire() | {"seed": options.seed, "rounds": number}))
    return 1 if total.violations else 0


def _judge(plan: Plan, keep: Path) -> Verdict:
    home = keep / f"seed-{plan.seed}{'-' + plan.build if plan.build else ''}"
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        old.unlink()
    alone = len(plan.faults) * plan.repeat
    print(f"seed {plan.seed}: {alone} faults alone, then mixed for {plan.mixed_s:.0f} s")
    verdict = Round(plan, home, _say).run()
    for violation in verdict.violations[:_MOST_VIOLATIONS]:
        _say(f"{violation.invariant} {violation.code} {violation.subject}: {violation.detail}")
    if len(verdict.violations) > _MOST_VIOLATIONS:
        _say(f"and {len(verdict.violations) - _MOST_VIOLATIONS} more")
    _say(f"history: {home / 'history.jsonl'}")
    return verdict


def _prove(options: argparse.Namespace) -> int:
    """Whether each build that is broken on purpose is caught; 0 when all are."""
    caught = {}
    for build, faults in _PROOFS.items():
        plan = _proof_of(build, faults, options)
        print(f"build {build}")
        codes = Counter(each.code for each in _judge(plan, options.keep).violations)
        caught[build] = dict(codes.most_common())
    print(json.dumps({"verdict": "green" if all(caught.values()) else "red", "caught": caught}))
    return 0 if all(caught.values()) else 1


def _proof_of(build: str, faults: tuple[str, ...], options: argparse.Namespace) -> Plan:
    return Plan(
        seed=options.seed,
        faults=faults,
        mixed_s=0.0,
        rate=options.rate,
        lease_ms=options.lease_ms,
        build=build,
    )


def _plan(options: argparse.Namespace, seed: int, left_s: float) -> Plan:
    mixed_s = min(ROUND_S, left_s) - _ALONE_S if options.minutes else options.mixed
    return Plan(
        seed=seed,
        faults=options.faults or tuple(name for name in FAULTS if options.minutes or name not in LONG),
        repeat=options.repeat,
        every_s=options.every,
        mixed_s=max(0.0, mixed_s),
        rate=options.rate,
        lease_ms=options.lease_ms,
        flood=options.flood,
        build=options.build,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=_names, help=f"only these, by comma: {', '.join(FAULTS)}")
    parser.add_argument("--repeat", type=int, default=1, help="each fault alone so many times")
    parser.add_argument("--mixed", type=float, default=20.0, help="seconds of several faults at once")
    parser.add_argument("--every", type=float, default=1.25, help="seconds from one mixed fault to the next")
    parser.add_argument("--minutes", type=float, default=0.0, help="rounds with seeds in turn for so long")
    parser.add_argument("--rate", type=float, default=60.0, help="jobs a second")
    parser.add_argument("--flood", type=float, default=0.0, help="so many small jobs a second more")
    parser.add_argument("--lease-ms", type=int, default=4_000)
    parser.add_argument("--build", choices=BUILDS, default="", help="a build that is broken on purpose")
    parser.add_argument("--prove", action="store_true", help="check that every such build is caught")
    parser.add_argument("--keep", type=Path, default=Path(".chaos"), help="directory for histories and logs")
    return parser.parse_args()


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"no fault is named {name}; there are {', '.join(FAULTS)}")
    return names


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
