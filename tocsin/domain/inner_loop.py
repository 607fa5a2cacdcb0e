"""The inner loop: an incident of nobody's, opened, delivered and resolved again and again to see that all of it works.

It has a project, a server and an integration of its own, by fixed keys that no new row can get. The project has no
members and its token is known to nobody, so that people see none of it.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

PROJECT = UUID("00000000-0000-7000-8000-000000000001")
SERVER = UUID("00000000-0000-7000-8000-000000000002")
INTEGRATION = UUID("00000000-0000-7000-8000-000000000003")

NAME = "Tocsin's inner loop"
INTEGRATION_TYPE = "Tocsin::InnerLoop"
INCIDENT_TYPE = "inner_loop"
SETTING = "secret"
"""A secret setting of its integration that is of no use, but to be decrypted before each delivery, as anybody's are."""

KEPT = timedelta(minutes=5)
"""For how long its incidents and deliveries stay on record."""
ROUNDS = 2
"""It works if it went through within so many of its intervals."""
