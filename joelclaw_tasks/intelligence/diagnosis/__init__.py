"""Diagnosis: why something keeps failing. Evidence is collected, a model is asked once, a person decides."""
