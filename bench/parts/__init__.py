"""One file is one thing measured: `measure(workshop)` yields its figures."""
