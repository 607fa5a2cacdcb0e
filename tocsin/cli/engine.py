"""`tocsin engine`: delivers, checks and sweeps; any number of these processes may run."""

from __future__ import annotations

import asyncio

import click

from tocsin.cli import files, memory
from tocsin.cli.options import settings_option
from tocsin.settings import Settings


@click.command()
@settings_option
def command(settings: Settings) -> None:
    """Run an engine: deliver notifications and run checks. Needs a database prepared by `tocsin migrate`."""
    memory.block_imports(traces=settings.otlp_endpoint is not None)
    files.allow_many()
    import uvloop

    from tocsin import app
    from tocsin.cli import logs
    from tocsin.cli.serve import stop_on_signals
    from tocsin.transports import tracing

    app.require_keys(settings)
    logs.set_up("engine", settings.log_level)
    tracing.start(settings.otlp_endpoint, "engine")

    async def run() -> None:
        stopping, stop = stop_on_signals(), asyncio.Event()
        stopping.add_done_callback(lambda _: stop.set())
        current = asyncio.ensure_future(app.wait_until_usable(settings))
        await asyncio.wait({current, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not current.done():
            current.cancel()
            return
        current.result()
        memory.freeze_gc()
        await app.run_engine(settings, stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())
    finally:
        tracing.stop()
