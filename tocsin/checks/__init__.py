"""What a network monitor can check: one file is one type."""
