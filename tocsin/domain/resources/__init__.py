"""What can have incidents: one file a kind, found rather than registered."""
