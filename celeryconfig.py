"""Settings of the fleet's Celery app. Lower-case Celery names only; values come from Settings."""

from beat_schedule import beat_schedule  # noqa: F401  # a Celery setting by its name
from joelclaw_tasks.address import Address
from joelclaw_tasks.settings import Settings

_settings = Settings.load()

# broker_url, result_backend and what goes with them (TLS, sentinels).
_redis = Address.parse(_settings.redis_url or "redis://127.0.0.1:6379/0").celery_settings()
globals().update(_redis)
broker_transport = "joelclaw_tasks.broker.transport:Transport"
broker_transport_options = {
    **_redis["broker_transport_options"],
    "key_prefix": _settings.key_prefix,
    "lease_ms": _settings.lease_ms,
    "max_kills": _settings.max_kills,
    "transitions_max": _settings.transitions_max,
    "dead_keep_ms": _settings.dead_keep_days * 86_400_000,
    "dead_max": _settings.dead_max,
    "slack_ms": _settings.slack_ms,
}
broker_connection_retry_on_startup = True

result_expires = 3600
task_ignore_result = True

task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]
task_acks_late = True
task_reject_on_worker_lost = True
task_acks_on_failure = False
task_acks_on_timeout = True
task_default_queue = "default"
task_track_started = True
task_send_sent_event = True
worker_send_task_events = True
worker_prefetch_multiplier = 1
worker_hijack_root_logger = True
worker_max_tasks_per_child = 10_000
timezone = "UTC"
enable_utc = True
