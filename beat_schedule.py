"""What beat fires, one entry each. Any number of beats fire each entry once."""

from celery.schedules import crontab

beat_schedule = {
    "feeds-hourly": {
        "task": "joelclaw.emit",
        "schedule": crontab(minute="0"),
        "args": ("subscription/check-feeds.requested", {}),
    },
    "health-pulse-redis": {"task": "health.redis", "schedule": 60.0, "options": {"expires": 55}},
}
