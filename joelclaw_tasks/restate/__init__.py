"""Restate: durable invocations, which an event may start and whose output a job may wait for."""
