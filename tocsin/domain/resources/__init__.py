"""What can have incidents: one file per kind, discovered rather than registered."""
