"""What beat drives: plain functions, no Celery."""
