"""Which mode a client asks for, by what name, and with which options of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_dlm.decoding import MODES, find_mode
from vlm_dlm.errors import ModeError
from vlm_dlm.preflight import mode_params
from vlm_dlm.request import DEFAULT_MODE
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.schemas.common import REQUEST_OPTIONS, ModeOptions
from vlm_dlm_app.state import Services

AUTO = "auto"
# The modes' options by the engine's names -> by the names of requests. A request sets no others.
OPTION_FIELDS = {option.name: option.request_names[0] for option in REQUEST_OPTIONS}


def resolve_mode(services: Services, model: str | None, generation_mode: str | None = None) -> str:
    """The mode that a model id (NAME, NAME:MODE) and a mode's name or alias ask for.

    Neither, or 'auto', means DEFAULT_MODE, or the first mode where that is not there. Raises
    ApiError: 404 for a model that is not served, 400 for a contradiction or a mode
    that is not offered; ModeError for an unknown one.
    """
    by_model = _mode_of_model(services, model)
    wanted = None
    if generation_mode not in (None, AUTO):
        wanted = find_mode(generation_mode, offered_names(services)).name
    if by_model is not None and wanted is not None and by_model != wanted:
        raise ApiError(
            ModeError.code,
            f"the model asks for mode {by_model} and generation_mode for {wanted}",
            "generation_mode",
        )
    mode = by_model or wanted or default_mode(services)
    check_offered(services, mode)
    return mode


def offered_names(services: Services) -> tuple[str, ...]:
    """Those that the engine has, in its order."""
    return tuple(info.name for info in services.engine.capabilities.modes)


def default_mode(services: Services) -> str:
    """What writes where a request does not choose."""
    offered = offered_names(services)
    return DEFAULT_MODE if DEFAULT_MODE in offered else offered[0]


def check_offered(services: Services, *modes: str) -> None:
    """Raise ApiError, 400, for the first mode that the engine lacks."""
    offered = offered_names(services)
    for mode in modes:
        if mode not in offered:
            message = f"mode {mode} is not offered here; the modes are {', '.join(offered)}"
            raise ApiError("mode_not_offered", message)


def model_id(services: Services, mode: str | None = None) -> str:
    """The id under which clients know a mode; without one, the model itself."""
    name = services.settings.model_name
    return name if mode is None else f"{name}:{mode}"


def mode_options(options: ModeOptions, *modes: str) -> Mapping[str, Any]:
    """Checked Params per mode from what the request sets of their options.

    Of several modes each takes what it has. Raises ModeError for an option that none has, or a
    value that cannot be run.
    """
    return mode_params(modes, given_options(options), is_shared=len(modes) > 1)


def given_options(options: ModeOptions) -> dict[str, Any]:
    """What a request sets of the modes' options, by the engine's names."""
    values = {name: getattr(options, field) for name, field in OPTION_FIELDS.items()}
    return {name: value for name, value in values.items() if value is not None}


def _mode_of_model(services: Services, model: str | None) -> str | None:
    if model is None:
        return None
    name, _, suffix = model.partition(":")
    is_mode = not suffix or any(suffix == m.name or suffix in m.aliases for m in MODES.values())
    if name != services.settings.model_name or not is_mode or model.endswith(":"):
        message = f"there is no model {model[:100]!r} here; the model is {model_id(services)}"
        raise ApiError("model_not_found", message, "model")
    return find_mode(suffix).name if suffix else None
