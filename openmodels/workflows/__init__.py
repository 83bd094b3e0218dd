"""Workflows around a model: documents read into records, checked, and reviewed by a person."""
