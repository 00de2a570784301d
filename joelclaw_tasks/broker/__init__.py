"""The admission layer as a Celery broker transport, and the router and scheduler beside it."""
