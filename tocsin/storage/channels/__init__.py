"""Integrations and what their types remember."""
