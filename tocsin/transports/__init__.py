"""The guarded wires to the outside."""
