"""Integrations and the state of their types."""
