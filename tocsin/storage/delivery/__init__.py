"""Incidents, and the queue of what is said about them."""
