"""Tocsin watches servers and sites, and loses no notification when something happens to them."""

__version__ = "0.1.0"
