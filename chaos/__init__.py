"""A real fleet under a seeded schedule of faults, its history, and a checker: `python -m chaos`."""
