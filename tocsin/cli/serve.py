"""`tocsin serve`: the API and the web console; any number of these processes may run."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING

import click

from tocsin.cli import files, memory, starting
from tocsin.cli.options import host_option, port_option, settings_option
from tocsin.cli.sockets import bind, url_of, usable
from tocsin.settings import Settings

if TYPE_CHECKING:
    from tocsin.api.server import Front

FINISH = 5
"""Seconds that running requests have to finish on shutdown."""


@click.command()
@host_option
@port_option
@click.option("--fd", type=int, hidden=True, help="A socket that already listens, passed by `tocsin up`.")
@settings_option
def command(host: str, port: int, fd: int | None, settings: Settings) -> None:
    """Serve the API and the web console. Needs a database prepared by `tocsin migrate`."""
    listening = socket.socket(fileno=fd) if fd is not None else bind(host, port)
    memory.block_imports(traces=settings.otlp_endpoint is not None)
    import uvloop

    from tocsin import app
    from tocsin.cli import logs
    from tocsin.transports import tracing

    app.require_keys(settings)
    logs.set_up("serve", settings.log_level)
    tracing.start(settings.otlp_endpoint, "serve")
    host, port = listening.getsockname()[:2]
    application = app.api_app(settings, app.public_url(settings, host, port))

    async def run() -> bool:
        stop = stop_on_signals()
        current = asyncio.ensure_future(app.wait_until_usable(settings))
        awaited = {current, stop}
        done, _ = await asyncio.wait(awaited, timeout=starting.AT_ONCE, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            async with starting.answering(listening, settings) as serving:
                await asyncio.wait({*awaited, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not current.done():
            current.cancel()
            return stop.done()
        current.result()
        return await _answer(application, settings, listening, stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            answered = runner.run(run())
    finally:
        tracing.stop()
    if not answered:
        raise click.ClickException("the API could not be started; the lines above say why")


def stop_on_signals() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal(signum: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(None)
            return
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, on_signal, signum)
    return stop


async def _answer(
    application: Front, settings: Settings, listening: socket.socket, stop: asyncio.Future[None]
) -> bool:
    """Serve until `stop`; returns False if the application could not start."""
    from tocsin.api import hot, probe
    from tocsin.cli import http_server
    from tocsin.web import live

    class Server(http_server.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with usable(*listening.getsockname()[:2]):
                await super().startup(sockets)
            memory.freeze_gc()
            if self.started:
                click.echo(f"ready {url_of(listening)}")

    server = Server(
        http_server.config(
            application,
            http=hot.protocol(
                application.app, settings.limits, files.allow_many(), settings.trusted_proxies
            ),
            lifespan="on",
            timeout_graceful_shutdown=FINISH,
        )
    )
    stop.add_done_callback(lambda _: live.close())
    stop.add_done_callback(lambda _: probe.close())
    stop.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await server.serve([listening])
    return bool(server.started)
