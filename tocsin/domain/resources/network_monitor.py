"""A network monitor, which checks a site or a port."""

from tocsin.domain import ids
from tocsin.domain.resources.base import Resource

RESOURCE = Resource(
    type="NetworkMonitor",
    prefix=ids.MONITOR,
    noun="network_monitor",
    label="network monitor",
    path="/network_monitors",
    table="network_monitors",
    rank=2,
    name="r.name",
    url="r.url",
)
