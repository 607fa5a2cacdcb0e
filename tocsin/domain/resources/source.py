"""A source: another system that sends its alerts."""

from tocsin.domain import ids
from tocsin.domain.resources.base import Resource

RESOURCE = Resource(
    type="Source",
    prefix=ids.SOURCE,
    noun="source",
    label="source",
    path="/sources",
    table="sources",
    rank=4,
    name="r.name",
)
