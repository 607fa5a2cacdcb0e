"""The rules, pure: no await, no SQL, no clock."""
