"""Traffic: which jobs a run is made of, and what holds for them."""

from __future__ import annotations

QUEUE = "chaos"
#: What the checker holds against the starts. Said twice on purpose: here, and to the product in app.py.
LIMITS = {"limit:handler/limited": 2, "limit:key/keyed": 1}
RATES = {"rated": (20, 1.0, 3)}
#: Families whose jobs belong in the dead letter.
FAILS = ("failing", "poison", "undecodable", "no.such.task", "unreadable")
#: Families whose every start kills its process.
DEADLY = ("poison",)
PAUSABLE = ("pausable", "plain")
#: Families that no gate can stop: their lanes together keep the order of their ranks.
UNGATED = ("small", "lasting", "failing", "retried", "tick")
KEYS = ("a", "b", "c")

#: Family: weight among what producers send, and the shortest and longest run in seconds.
TRAFFIC: dict[str, tuple[int, float, float]] = {
    "plain": (30, 0.0, 0.05),
    "limited": (16, 0.02, 0.1),
    "keyed": (16, 0.02, 0.1),
    "rated": (10, 0.0, 0.03),
    "pausable": (20, 0.0, 0.05),
    "retried": (4, 0.0, 0.02),
    "failing": (2, 0.0, 0.02),
    "lasting": (2, 0.5, 1.5),
}
