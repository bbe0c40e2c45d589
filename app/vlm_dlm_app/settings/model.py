"""The server's settings: built once, frozen, passed down."""

from __future__ import annotations

import re
import shlex
from typing import Any, get_args

from pydantic import SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vlm_dlm.environment import SETTINGS_PREFIX
from vlm_dlm_app.http.header_values import is_host
from vlm_dlm_app.http.proxies import TrustedProxies, as_prefix
from vlm_dlm_app.settings.fields import SettingFields

_ORIGIN = re.compile(
    r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?"
)


class Settings(SettingFields):
    """Everything an operator can set, checked."""

    model_config = SettingsConfigDict(
        env_prefix=SETTINGS_PREFIX, extra="forbid", frozen=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_blank(cls, value: Any) -> Any:
        """What is set to nothing was meant to be something."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("is set, but empty")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """To Python, true is 1: a limit that nobody meant."""
        if isinstance(value, bool) and _is_number(
            cls.model_fields[str(info.field_name)].annotation
        ):
            raise ValueError("must be a number, not true or false")
        return value

    @field_validator(
        *("api_keys", "allow_origins", "allowed_hosts", "script_words", "trusted_proxies"),
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Lists are written with commas in the environment."""
        if isinstance(value, str):
            parts = tuple(part.strip() for part in value.split(",") if part.strip())
            if not parts:  # as $A,$B leaves it where both are missing: not what was meant
                raise ValueError("is set, but nothing stands between its commas")
            return parts
        return value

    @field_validator("api_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if not (text and text.isascii() and text.isprintable() and " " not in text):
                raise ValueError("holds a key that is empty or not plain printable ASCII")
            if "," in text:
                raise ValueError("holds a key with a comma, which parts keys in variables")
        return keys

    @field_validator("allow_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    "takes origins such as https://example.org, without a path; "
                    "every origin (*) is not offered"
                )
        return tuple(origin.lower() for origin in origins)

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not is_host(host, has_port=False):
                raise ValueError("takes host names such as example.org, without scheme and port")
        return tuple(host.lower() for host in hosts)

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            is_everybody = TrustedProxies(names).are_everybody
        except ValueError:
            raise ValueError(
                "takes addresses (10.0.0.7), networks (10.0.0.0/8), loopback and unix; "
                "everybody (*) is not offered"
            ) from None
        if is_everybody:
            raise ValueError(
                "believes everybody, as 0.0.0.0/0 and ::/0 do: any client could then say that it "
                "is another, and that another host was asked; name the proxies"
            )
        return names

    @field_validator("root_path")
    @classmethod
    def _check_root_path(cls, text: str | None) -> str | None:
        prefix = as_prefix(text or "/")
        if prefix is None:
            raise ValueError(
                "takes a path such as /vlm, of letters, digits and . _ ~ -, that does not begin "
                "with an address of the server itself"
            )
        return prefix or None

    @field_validator("otel_endpoint")
    @classmethod
    def _check_otel_endpoint(cls, url: str | None) -> str | None:
        if url is not None and not re.fullmatch(rf"({_ORIGIN.pattern})(/[A-Za-z0-9._~/-]*)?", url):
            raise ValueError("takes the address of a collector, such as http://localhost:4318")
        return url

    @field_validator("vllm_url")
    @classmethod
    def _check_vllm_url(cls, url: str | None) -> str | None:
        if url is not None and not _ORIGIN.fullmatch(url):
            raise ValueError("takes an address such as http://gpu-host:8000, without a path")
        return url

    @field_validator("vllm_args")
    @classmethod
    def _check_vllm_args(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text and info.data.get("vllm_url"):
            raise ValueError("is for a vLLM that is started here, and vllm_url names another")
        try:
            shlex.split(text or "")
        except ValueError:
            raise ValueError("has a quotation mark without its other half") from None
        return text

    @field_validator("vllm_model", "vllm_api_key")
    @classmethod
    def _check_vllm_elsewhere(cls, value: Any, info: ValidationInfo) -> Any:
        if value and not info.data.get("vllm_url"):
            raise ValueError("needs vllm_url")
        return value

    @field_validator("vllm_alone", "vllm_url", "vllm_args")
    @classmethod
    def _check_backend(cls, value: Any, info: ValidationInfo) -> Any:
        """vllm_python may stay in the environment of whoever has it."""
        if value and info.data.get("backend") != "vllm":
            raise ValueError("needs backend to be vllm")
        return value

    @field_validator("allow_http_urls")
    @classmethod
    def _check_http_urls(cls, is_allowed: bool, info: ValidationInfo) -> bool:
        if is_allowed and not info.data.get("allow_image_urls"):
            raise ValueError("needs allow_image_urls")
        return is_allowed

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` gathers the values, so that a plain Settings() reads nothing."""
        return (init_settings,)


def _is_number(annotation: Any) -> bool:
    """Whether a field takes one, perhaps among other things."""
    return annotation in (int, float) or any(map(_is_number, get_args(annotation)))
