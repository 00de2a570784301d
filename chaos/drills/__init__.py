"""Drills: each measures one promise against a real fleet, and judges it: `python -m chaos.drills`."""
