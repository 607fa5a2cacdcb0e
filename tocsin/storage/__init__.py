"""Storage: SQL functions that take the caller's transaction."""
