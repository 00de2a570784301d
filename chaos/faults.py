"""Faults by name: each harms a fleet, notes what it did to whom, and takes it back."""

from __future__ import annotations

from chaos import faults_of_network, faults_of_redis, faults_of_work, faults_of_workers
from chaos.fault import FAULTS, Course
from chaos.faults_of_redis import OF_REDIS
from chaos.faults_of_workers import LONG

__all__ = [
    "FAULTS",
    "LONG",
    "OF_REDIS",
    "Course",
    "faults_of_network",
    "faults_of_redis",
    "faults_of_work",
    "faults_of_workers",
]
