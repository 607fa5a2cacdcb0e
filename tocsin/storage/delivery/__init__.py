"""Incidents, and the queue of their notifications."""
