"""The model and its modes as model ids, so that any client of several models can compare modes."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from vlm_dlm.engine.base import ModeInfo
from vlm_dlm_app.answering.modes import OPTION_FIELDS
from vlm_dlm_app.http.auth import ClientDep
from vlm_dlm_app.http.errors import ApiError, error_responses
from vlm_dlm_app.state import Services, ServicesDep

router = APIRouter(prefix="/v1/models", tags=["models"])
OWNER = "vlm-dlm"


class Architecture(BaseModel):
    """What goes in and what comes out."""

    input_modalities: list[str]
    output_modalities: list[str] = ["text"]


class ModeDetail(BaseModel):
    """One mode.

    is_lossless: greedy answers equal those of `ar` in this server's number format; bfloat16
        promises that of no speculative mode.
    options: fields of a request that it takes.
    """

    name: str
    title: str
    is_lossless: bool
    options: list[str]


class Limits(BaseModel):
    """Bounds of one request. max_context in tokens, prompt and answer together."""

    max_context: int
    max_tokens: int
    max_images: int
    max_image_bytes: int
    max_image_pixels: int
    max_prompt_chars: int
    max_messages: int
    max_n: int
    max_stop: int


class Extra(BaseModel):
    """What OpenAI's model object has no place for.

    mode: of this id, null for the model itself, whose requests choose by `generation_mode`.
    """

    mode: str | None
    modes: list[ModeDetail]
    limits: Limits


class ModelObject(BaseModel):
    """One id to send as `model`.

    created: seconds since 1970 at which the server began.
    """

    model_config = ConfigDict(protected_namespaces=())

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER
    architecture: Architecture
    vlm_dlm: Extra


class ModelList(BaseModel):
    """All ids."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


@router.get("", summary="List model ids", responses=error_responses(401))
async def list_models(services: ServicesDep, client: ClientDep) -> ModelList:
    """The model, and the model in each of its modes."""
    return ModelList(data=list(_objects(services).values()))


@router.get("/{model_id:path}", summary="Show one model id", responses=error_responses(401, 404))
async def get_model(model_id: str, services: ServicesDep, client: ClientDep) -> ModelObject:
    """One of the ids of the list."""
    found = _objects(services).get(model_id)
    if found is None:
        name = services.settings.model_name
        message = f"there is no such model here; the model is {name}"
        raise ApiError("model_not_found", message, "model")
    return found


def _objects(services: Services) -> dict[str, ModelObject]:
    name, modes = services.settings.model_name, services.engine.capabilities.modes
    ids = {name: None} | {f"{name}:{mode.name}": mode for mode in modes}
    return {id_: _object(services, id_, mode) for id_, mode in ids.items()}


def _object(services: Services, id_: str, mode: ModeInfo | None) -> ModelObject:
    shown = services.engine.capabilities.modes if mode is None else (mode,)
    extra = Extra(
        mode=None if mode is None else mode.name,
        modes=[mode_detail(services, info) for info in shown],
        limits=_limits(services),
    )
    reads = ["text", "image"] if services.checkpoint.processor.reads_images else ["text"]
    architecture = Architecture(input_modalities=reads)
    return ModelObject(id=id_, created=services.began_s, architecture=architecture, vlm_dlm=extra)


def mode_detail(services: Services, mode: ModeInfo) -> ModeDetail:
    """What clients are told of a mode."""
    options = [OPTION_FIELDS[name] for name in mode.options if name in OPTION_FIELDS]
    return ModeDetail(
        name=mode.name,
        title=mode.title,
        is_lossless=services.is_lossless(mode.name),
        options=options,
    )


def _limits(services: Services) -> Limits:
    settings = services.settings
    return Limits(
        max_context=services.engine.capabilities.max_context,
        max_tokens=settings.max_tokens_limit,
        max_images=settings.max_images,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_prompt_chars=settings.max_prompt_chars,
        max_messages=settings.max_messages,
        max_n=settings.max_n,
        max_stop=settings.max_stop,
    )
