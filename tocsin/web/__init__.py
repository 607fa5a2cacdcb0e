"""The web console: its pages, and what they load."""
