"""The event digest: what happened in each window of time, told in one page."""
