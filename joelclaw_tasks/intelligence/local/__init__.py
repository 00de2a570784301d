"""A Messages API on this machine, for tests and demos: its protocol, scripted answers, every fault."""
