"""The bench: stock Celery against this transport, in turn, on one Redis. Run `python -m bench`."""
