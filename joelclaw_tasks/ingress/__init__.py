"""The door for events that come over HTTP: webhooks of known providers, and a general events endpoint."""
