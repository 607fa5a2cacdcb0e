"""What other systems speak when they send alerts: one file per type, discovered rather than registered."""
