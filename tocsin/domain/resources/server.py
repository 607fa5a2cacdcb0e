"""A server, which an agent reports on."""

from tocsin.domain import ids
from tocsin.domain.resources.base import Resource

RESOURCE = Resource(
    type="Server",
    prefix=ids.SERVER,
    noun="server",
    label="server",
    path="/servers",
    table="servers",
    rank=1,
    name="coalesce(nullif(r.hostname, ''), r.motherboard_id)",
)
