"""A heartbeat, which a job sends whenever it has run."""

from tocsin.domain import ids
from tocsin.domain.resources.base import Resource

RESOURCE = Resource(
    type="Heartbeat",
    prefix=ids.HEARTBEAT,
    noun="heartbeat",
    label="heartbeat",
    path="/heartbeats",
    table="heartbeats",
    rank=3,
    name="r.name",
)
