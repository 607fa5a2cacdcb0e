"""Servers, network monitors and their measurements."""
