"""Where notifications can go: one file is one type."""
