"""The guarded transports to the outside."""
