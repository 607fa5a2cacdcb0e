"""Tocsin monitors servers and websites, and never loses a notification."""

__version__ = "0.2.0"
