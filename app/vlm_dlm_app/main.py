"""Composes the server: parts, routes, middleware. Knows no concrete engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from vlm_dlm import __version__
from vlm_dlm.grammar.trial import GrammarTrial
from vlm_dlm.preflight import Checkpoint
from vlm_dlm.processor.image_input import ImageLimits
from vlm_dlm.serving.managed import ManagedEngine
from vlm_dlm.serving.memory_budget import MemoryBudget
from vlm_dlm.serving.pictures.decode_pool import DecodePool
from vlm_dlm.serving.pictures.preparation import Preparer
from vlm_dlm.serving.queue.service import Service, ServiceConfig
from vlm_dlm_app.answering.live_metrics import LiveMetrics
from vlm_dlm_app.http.addresses import Addresses
from vlm_dlm_app.http.auth import OPEN_PATHS, Clients
from vlm_dlm_app.http.errors import error_responses, install_error_handlers
from vlm_dlm_app.http.held_bytes import HeldBytes
from vlm_dlm_app.http.idempotency import IdempotencyStore
from vlm_dlm_app.http.lifecycle import Lifecycle
from vlm_dlm_app.http.middleware.asterisk import Asterisk
from vlm_dlm_app.http.middleware.body import Body, BodyLimits
from vlm_dlm_app.http.middleware.door import Door
from vlm_dlm_app.http.middleware.envelope import ID_HEADER, Envelope
from vlm_dlm_app.http.middleware.forwarded import Prefix
from vlm_dlm_app.http.middleware.gate import Gate
from vlm_dlm_app.http.middleware.guard import Guard
from vlm_dlm_app.http.middleware.head import Head
from vlm_dlm_app.http.middleware.keys import Keys
from vlm_dlm_app.http.middleware.pace import Pace
from vlm_dlm_app.http.middleware.paths import Paths
from vlm_dlm_app.http.parsing import BodyWorker
from vlm_dlm_app.http.proxies import TrustedProxies
from vlm_dlm_app.media.fetcher import Fetcher, FetchPolicy
from vlm_dlm_app.page import report_route
from vlm_dlm_app.page.build import build_page
from vlm_dlm_app.page.mount import Page, PageMount, check_extras
from vlm_dlm_app.page.paths import is_page_path
from vlm_dlm_app.routes import chat, compare, document, generate, models, status
from vlm_dlm_app.settings.budgeting import memory_budget
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.state import Services
from vlm_dlm_app.telemetry.metrics import Metrics
from vlm_dlm_app.telemetry.tracing import build_tracing

ROUTES = (chat, generate, compare, models, status, document)
ADDRESSES = Addresses(
    [
        route.path
        for module in ROUTES
        for route in module.router.routes
        if isinstance(route, APIRoute)
    ]
)
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
# A picture is decoded to at most this many times the model's own longest side, then scaled.
DECODE_SIDES = 2


def create_app(
    settings: Settings, engine: ManagedEngine, checkpoint: Checkpoint, *, has_page: bool = False
) -> FastAPI:
    """The whole HTTP interface, with the page at / if asked for.

    Its lifespan starts the engine, which goes on loading by itself, and closes everything in the
    end.
    """
    if has_page:
        check_extras(settings)
    services = build_services(settings, engine, checkpoint)
    page = Page(lambda: build_page(services)) if has_page else None
    app = FastAPI(
        title="vlm-dlm",
        summary="One vision-language model, four ways to write with it.",
        version=__version__,
        openapi_url=None,  # there is a route for it
        redirect_slashes=False,
        responses=error_responses(403, 500),
        lifespan=_lifespan(services, page),
        middleware=_middleware(services),
    )
    app.state.services = services
    app.state.page = page
    install_error_handlers(app, ADDRESSES)
    for module in ROUTES:
        app.include_router(module.router)
    if page is not None:
        app.include_router(report_route.router)
        app.router.routes.append(PageMount(page, settings.page_mcp))
    _amend_document(app, settings)
    app.state.document = document.Document(lambda: app.openapi())
    if services.tracing is not None:
        services.tracing.instrument(app)
    return app


def build_services(settings: Settings, engine: ManagedEngine, checkpoint: Checkpoint) -> Services:
    """All parts, none of them started. Raises BadInputError for settings the engine cannot run."""
    max_running = settings.max_running or engine.capabilities.max_running
    budget = memory_budget(settings, checkpoint)
    preparer = _preparer(
        settings, checkpoint, max_running, engine.capabilities.needs_pictures, budget
    )
    queue = ServiceConfig(
        max_waiting=settings.max_waiting,
        max_waiting_tokens=settings.max_waiting_tokens,
        max_running=settings.max_running,
        deadline_s=settings.deadline_s,
    )
    policy = FetchPolicy(settings.allow_http_urls, max_bytes=settings.max_image_bytes)
    tokenizer = checkpoint.processor.tokenizer
    services = Services(
        settings=settings,
        checkpoint=checkpoint,
        engine=engine,
        service=Service(engine, queue),
        preparer=preparer,
        fetcher=Fetcher(policy) if settings.allow_image_urls else None,
        metrics=Metrics(settings.model_name, [mode.name for mode in engine.capabilities.modes]),
        idempotency=IdempotencyStore(settings.idempotency_s),
        lifecycle=Lifecycle(),
        worker=BodyWorker(),
        held=HeldBytes(min(settings.max_held_body_bytes, budget.bodies), settings.max_body_bytes),
        began_s=int(time.time()),
        structures=GrammarTrial(
            tokenizer, checkpoint.config.vocab_size, frozenset(tokenizer.special.eos)
        ),
        tracing=build_tracing(settings.otel_endpoint, settings.model_name),
    )
    services.metrics.add(LiveMetrics(services))
    return services


def _preparer(
    settings: Settings,
    checkpoint: Checkpoint,
    max_running: int,
    needs_pictures: bool,
    budget: MemoryBudget,
) -> Preparer:
    limits = ImageLimits(max_pixels=settings.max_image_pixels, max_bytes=settings.max_image_bytes)
    vision = checkpoint.config.vision
    max_side = None if vision is None else DECODE_SIDES * vision.image_size
    return Preparer(
        checkpoint,
        DecodePool(limits=limits, max_side=max_side, room_bytes=budget.decode),
        max_request_pixels=settings.max_request_pixels,
        max_held_pixels=budget.num_pixels,
        max_preparing=max(settings.max_waiting, max_running),
        keeps_pictures=needs_pictures,
    )


def _lifespan(
    services: Services, page: Page | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        decoder = services.preparer.decoder
        starting = asyncio.create_task(decoder.start())  # takes a moment; nobody waits for it
        try:
            await services.engine.start()
            async with nullcontext() if page is None else page.running():
                yield
        finally:
            services.lifecycle.close_door()
            starting.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await starting
            await services.idempotency.close()
            await services.engine.close()
            services.preparer.close()
            await decoder.close()
            services.worker.close()
            services.structures.close()
            if services.fetcher is not None:
                services.fetcher.close()
            if services.tracing is not None:
                await asyncio.to_thread(services.tracing.close)

    return lifespan


def _middleware(services: Services) -> list[Middleware]:
    """From the outside in."""
    settings, metrics = services.settings, services.metrics
    keys = [key.get_secret_value() for key in settings.api_keys]
    limits = BodyLimits(
        max_bytes=settings.max_body_bytes,
        max_depth=settings.max_json_depth,
        limit_s=settings.body_s,
    )
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.allow_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=[ID_HEADER, "Retry-After"],
    )
    return [
        Middleware(Envelope),
        Middleware(Prefix, TrustedProxies(settings.trusted_proxies), settings.root_path or ""),
        Middleware(Paths, ADDRESSES),
        Middleware(Guard),
        Middleware(Gate, settings.host, settings.allowed_hosts, settings.allow_origins),
        *([cors] if settings.allow_origins else []),
        Middleware(Guard),  # once more, so that errors from here on carry the headers of CORS
        Middleware(Asterisk),
        Middleware(Keys, Clients(keys, settings.protect_metrics, is_page_path)),
        Middleware(Pace),
        Middleware(Door, services.lifecycle, metrics),
        Middleware(Body, limits, metrics, services.worker, services.held),
        Middleware(Head),
    ]


def _amend_document(app: FastAPI, settings: Settings) -> None:
    """Say in the OpenAPI document which addresses ask for a key, and leave out the framework's own
    answer to wrong values, which is never given."""
    plain = app.openapi
    is_open = OPEN_PATHS if settings.protect_metrics else OPEN_PATHS | {"/metrics"}

    def openapi() -> dict[str, Any]:
        document = plain()
        parts = document.setdefault("components", {})
        for name in _FRAMEWORK_SCHEMAS:
            parts.get("schemas", {}).pop(name, None)
        if settings.api_keys:
            parts["securitySchemes"] = {"api_key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if settings.api_keys and path not in is_open:
                    operation["security"] = [{"api_key": []}]
        return document

    app.openapi = openapi
