"""What is kept: SQL as verbs that take the caller's transaction."""
