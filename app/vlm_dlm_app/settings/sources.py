"""Where settings come from: flags > environment > file > defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vlm_dlm.environment import DEBUG_VARIABLE, SETTINGS_PREFIX
from vlm_dlm.errors import BadInputError
from vlm_dlm_app.http.validation import place_of, sentence_of
from vlm_dlm_app.settings.model import Settings

# Variables of this prefix that are not settings of the server.
OTHER_VARIABLES = frozenset({DEBUG_VARIABLE})
# Settings that vLLM does not take, of those that flags can set.
OF_OWN_ENGINE = ("device", "quantize", "adapter", "single_process")


def load_settings(
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from flags (None counts as not given), the environment and a TOML file.

    Raises BadInputError naming the key, where it was set and what it takes.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    layers = {
        "the settings file": _read_file(file),
        "the environment": _read_environment(os.environ if environment is None else environment),
        "the flags": given,
    }
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, layer in layers.items():
        values |= layer
        origin |= dict.fromkeys(layer, name)
    for name, value in values.items():
        if isinstance(value, list | tuple) and not value:  # not what was meant, as `,` is not
            raise BadInputError(f"setting {name} (from {origin[name]}) is set, but holds nothing")
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = place_of(first) or "settings"
        where = origin.get(str(first["loc"][0]) if first["loc"] else "", "the settings")
        raise BadInputError(f"setting {key} (from {where}) {sentence_of(first)}") from None
    _check_flags(given, settings)
    return settings


def _check_flags(given: Mapping[str, Any], settings: Settings) -> None:
    """Raise BadInputError for a flag that changes nothing. The same setting may stay in the
    environment of whoever has it."""
    reasons: dict[str, str] = {}
    if settings.vllm_alone:
        reasons = dict.fromkeys(OF_OWN_ENGINE, "is for our own engine, and vllm_alone starts none")
    if settings.backend != "vllm":
        reasons["vllm_python"] = "needs backend to be vllm"
    elif settings.vllm_url is not None:
        reasons["vllm_python"] = "is for a vLLM that is started here, and vllm_url names another"
    for name in given:
        if name in reasons:
            raise BadInputError(f"setting {name} (from the flags) {reasons[name]}")


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings by their lower-case names; one that is empty is not set, so that a compose file can
    pass it on. An unknown one is kept and refused later."""
    return {
        name.removeprefix(SETTINGS_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(SETTINGS_PREFIX) and name not in OTHER_VARIABLES and value
    }


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        if not text.strip():  # as one that was mounted and is not there
            raise BadInputError(f"the settings file {file} is empty")
        return tomllib.loads(text)
    except OSError:
        raise BadInputError(f"the settings file {file} cannot be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise BadInputError(f"the settings file {file} is not valid TOML") from None
