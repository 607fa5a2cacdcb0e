"""Tocsin side by side with its peers, on this machine: `python -m bench --help`."""
