"""A probe, which makes checks from another place."""

from tocsin.domain import ids
from tocsin.domain.resources.base import Resource

RESOURCE = Resource(
    type="Probe",
    prefix=ids.PROBE,
    noun="probe",
    label="probe",
    path="/probes",
    table="probes",
    rank=5,
    name="r.name",
)
