"""Runs the app in this process: one socket, one event loop, and an orderly end.

The first SIGTERM, SIGINT or SIGHUP closes the door and lets what is open finish; the second ends
that too. The socket stays open until the end, so that whoever comes late is told so.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from vlm_dlm.cli.entry import end_at_once
from vlm_dlm.errors import BadInputError, UnavailableError, VlmDlmError
from vlm_dlm.preflight import open_checkpoint
from vlm_dlm.serving.engine_state import EngineState
from vlm_dlm.serving.process import event_loop
from vlm_dlm_app.http.middleware.gate import is_loopback
from vlm_dlm_app.http.proxies import TrustedProxies
from vlm_dlm_app.main import create_app
from vlm_dlm_app.page.mount import Page
from vlm_dlm_app.settings.launching import build_engine
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.state import Services
from vlm_dlm_app.telemetry.logs import set_up_logs
from vlm_dlm_app.wire.connections import Connections
from vlm_dlm_app.wire.protocol import bounded_protocol

if TYPE_CHECKING:
    from collections.abc import Generator

logger = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# For last events to reach their readers once everything was aborted; and how much of that until
# those end who get none, as their bodies or images are not all here yet.
FLUSH_S, LAST_EVENTS_S = 2.0, 0.5
CLOSE_S = 8.0  # for all parts to close after that
POLL_S = 0.05
MAX_OPEN_FILES = 65536
# Of those, what is no connection: libraries, pipes to children, uploads.
OTHER_FILES = 128
NO_KEYS = "anybody who can reach {host} may ask: set api_keys, or bind to 127.0.0.1"

OnLine = Callable[[str], None]
OnState = Callable[[EngineState], None]
OnPage = Callable[[str], object]


def serve(settings: Settings, say: OnLine, on_state: OnState, on_page: OnPage) -> None:
    """Serve until told to end. say: gets lines for the operator. on_state: gets every new state of
    the engine until it is ready. on_page: gets the address of the page once both are there.

    Raises BadInputError or CheckpointError before anything is started, and what the engine's first
    load finds wrong with them.
    """
    set_up_logs(settings.log_level, settings.log_format)
    checkpoint = open_checkpoint(settings.model)
    app = create_app(
        settings, build_engine(settings, checkpoint), checkpoint, has_page=settings.page
    )
    listener = _bind(settings)
    max_connections = min(settings.max_connections, _allow_many_files() - OTHER_FILES)
    proxies = TrustedProxies(settings.trusted_proxies)
    registry = Connections(max_connections, settings.max_client_connections, proxies.trusts)
    config = uvicorn.Config(
        app,
        http=bounded_protocol(settings.send_s, registry),
        loop="none",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_s,  # pyright: ignore[reportArgumentType]
        timeout_graceful_shutdown=1,
    )
    if not settings.api_keys and not is_loopback(settings.host):
        say(f"Warning: {NO_KEYS.format(host=settings.host)}")
    try:
        event_loop.run(_Server(app, config, listener, say, on_state, on_page).run())
    finally:
        end_at_once()  # all is over; another signal adds nothing


class _Uvicorn(uvicorn.Server):
    """Signals are ours."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class _Server:
    """One run of the server."""

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        listener: socket.socket,
        say: OnLine,
        on_state: OnState,
        on_page: OnPage,
    ) -> None:
        self._uvicorn = _Uvicorn(config)
        self._app = app
        self._listener = listener
        self._services: Services = app.state.services
        self._page: Page | None = app.state.page
        self._say = say
        self._on_state = on_state
        self._on_page = on_page
        self._ending: asyncio.Task[None] | None = None
        self._refusal: VlmDlmError | None = None
        self._has_settled = False
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Raises what the engine's first load refuses."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            # switched off by `nohup`, a terminal that closes is to end nothing
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal)
        serving = asyncio.create_task(self._uvicorn.serve([self._listener]))
        watching = asyncio.create_task(self._watch())
        try:
            await serving
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        if self._ending is not None and not self._has_settled:
            _leave()
        if self._refusal is not None:
            raise self._refusal

    async def _watch(self) -> None:
        """Tell how loading goes, until requests are taken or never will be. A server whose engine
        is down stays up to say so, or whatever started it would start it again and again; one that
        was told to run what cannot be run ends, as every command does."""
        while not self._uvicorn.started:
            await asyncio.sleep(POLL_S)
        self._say(f"Listening on {_address(self._listener)}")
        engine = self._services.engine
        ready = asyncio.create_task(engine.wait_ready())
        # takes a second the first time: now, then, and not on the event loop
        documenting = asyncio.create_task(asyncio.to_thread(self._app.openapi))
        shown: EngineState | None = None
        try:
            while not ready.done():
                if engine.state is not shown:
                    shown = engine.state
                    self._on_state(shown)
                await asyncio.wait({ready}, timeout=POLL_S)
            ready.result()
        except UnavailableError:
            if self._ending is None and engine.refusal is not None:
                self._refusal = engine.refusal
                self._services.lifecycle.close_door()
                self._uvicorn.should_exit = True
            elif self._ending is None:
                self._say(f"Not ready: {engine.state.reason}")
        else:
            await documenting
            _freeze()
            self._say("Ready")
            if self._page is not None and await self._page.wait():
                _freeze()
                path = self._services.settings.root_path or ""
                self._on_page(f"{_browsable(self._listener)}{path}/")
            self._has_settled = self._ending is None
        finally:
            ready.cancel()

    def _on_signal(self) -> None:
        if self._ending is None:
            self._services.lifecycle.close_door(self._services.settings.drain_s)
            self._ending = asyncio.create_task(self._end())
        else:
            self._hurry.set()

    async def _end(self) -> None:
        """Let what is open finish, then end what is left with a last event, then stop."""
        services, grace_s = self._services, self._services.settings.drain_s
        num_open = services.lifecycle.num_open
        self._say(f"Ending: {num_open} open requests have {grace_s:g} s to finish")
        idle = asyncio.create_task(services.lifecycle.wait_idle(grace_s))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({idle, hurry}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        hurry.cancel()
        if services.lifecycle.num_open:
            logger.warning("aborting %d open requests", services.lifecycle.num_open)
            services.service.abort_all()
            await services.lifecycle.wait_idle(LAST_EVENTS_S)
            services.lifecycle.end_unanswered()
            await services.lifecycle.wait_idle(FLUSH_S - LAST_EVENTS_S)
        self._uvicorn.should_exit = True
        # what closes may hang on a thread that loads; children end with this process
        asyncio.get_running_loop().call_later(CLOSE_S, _leave)


def _leave() -> None:
    """Everything is closed but threads that still import, which cannot be told to end."""
    logging.shutdown()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(0)


def _bind(settings: Settings) -> socket.socket:
    """Raises BadInputError if the address cannot be had."""
    host, port = settings.host.strip("[]"), settings.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Inherited by its connections. asyncio sets it only on sockets that name their protocol;
        # without it the second small write of an answer waits 40 ms for the reader's kernel.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, UnicodeError):
        raise BadInputError(
            f"cannot listen on {host} port {port}: it is taken, or not an address of this machine; "
            "--host and --port choose another"
        ) from None


def _freeze() -> None:
    """What is here now stays for good: no collection under load need look at it again."""
    gc.collect()
    gc.freeze()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return _address_of(host, port)


def _address_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _browsable(listener: socket.socket) -> str:
    """The address as this machine's browser reaches it."""
    host, port = listener.getsockname()[:2]
    names = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return _address_of(names.get(str(host), str(host)), port)


def _allow_many_files() -> int:
    """Every connection is an open file; the usual limit is low for a server. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
