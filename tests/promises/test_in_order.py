"""The third promise: that an incident began is delivered before that it is over."""

from __future__ import annotations

from tests.promise_scene import accepted, scene
from tests.receivers import Answer, Receiver
from tests.service import Service


async def test_a_resolve_never_overtakes_its_opening(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        receiver.otherwise = Answer(status=500)
        await stage.open(50)
        await receiver.arrivals(25)
        await stage.resolve(50)
        receiver.otherwise = Answer()
        await stage.ended("hook", 100)
    orders: dict[str, list[str]] = {}
    for request in accepted(receiver):
        orders.setdefault(request.json["incident_type"], []).append(request.json["incident_status"])
    assert len(orders) == 50
    assert all(order == ["ongoing", "resolved"] for order in orders.values()), orders


async def test_a_resolve_does_not_wait_for_another_incident(service: Service, receiver: Receiver) -> None:
    async with service.client() as client:
        stage = await scene(client, {"hook": receiver.url()})
        receiver.then(Answer(how="hang"))
        await stage.open(1)
        await receiver.arrivals(1)
        await stage.open(1, start=1)
        await stage.resolve(1, start=1)
        _, opened, resolved = await receiver.arrivals(3, timeout=5)
    assert opened.json["incident_type"] == resolved.json["incident_type"] == "type_1"
