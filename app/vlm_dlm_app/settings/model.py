"""The server's settings: built once, frozen, passed down."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from vlm_dlm_app.http.header_values import is_host
from vlm_dlm_app.http.proxies import TrustedProxies, as_prefix

PREFIX = "VLM_DLM_"
MIB = 2**20
_ORIGIN = re.compile(
    r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?"
)

Count = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class Settings(BaseSettings):
    """Everything an operator can set; docs/serving.md says what each is. Sizes in bytes, `_s` in
    seconds. engine, script_words, script_step_s: an engine that replays words instead of running a
    model, for tests and for work on the page. backend, vllm_*: which engine runs the mode `ar`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, protected_namespaces=()
    )

    model: str | None = None
    model_name: str = Field(default="vlm-dlm", pattern=r"^[A-Za-z0-9._/-]{1,100}$")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    quantize: Literal["int8", "int4"] | None = None
    adapter: str | None = None
    single_process: bool = False
    spare_engine: bool = True
    engine: Literal["torch", "scripted"] = "torch"
    script_words: Texts = ()
    script_step_s: float = Field(default=0.0, ge=0, le=60, allow_inf_nan=False)

    backend: Literal["own", "vllm"] = "own"
    vllm_alone: bool = False
    vllm_python: str | None = None
    vllm_url: str | None = None
    vllm_args: str | None = None
    vllm_model: str | None = None
    vllm_api_key: SecretStr | None = None

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    port: int = Field(default=8000, ge=0, le=65535)
    api_keys: Secrets = ()
    protect_metrics: bool = False
    allowed_hosts: Texts = ()
    allow_origins: Texts = ()
    trusted_proxies: Texts = ()
    root_path: str | None = None
    allow_image_urls: bool = False
    allow_http_urls: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    otel_endpoint: str | None = None

    max_connections: Count = 1024
    max_client_connections: Count = 512
    keep_alive_s: float = Field(default=75.0, gt=0, le=3600, allow_inf_nan=False)
    max_body_bytes: Count = 25 * MIB
    max_held_body_bytes: Count = 256 * MIB
    body_s: float = Field(default=60.0, gt=0, le=3600, allow_inf_nan=False)
    send_s: float = Field(default=30.0, gt=0, le=3600, allow_inf_nan=False)
    max_images: Count = 8
    max_image_bytes: Count = 20 * MIB
    max_image_pixels: Count = 40_000_000
    max_request_pixels: Count = 80_000_000
    max_prompt_chars: Count = 32_000
    max_messages: Count = 64
    max_json_depth: Count = 32
    max_tokens_limit: Count = 4096
    max_n: Count = 4
    max_stop: Count = 4
    max_stop_chars: Count = 64

    max_waiting: Count = 64
    max_waiting_tokens: Count = 65536
    max_running: Count | None = None
    max_cache_tokens: Annotated[int, Field(ge=256)] | None = None
    deadline_s: float = Field(default=300.0, gt=0, allow_inf_nan=False)
    drain_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    page: bool = True
    page_mcp: bool = False
    max_upload_bytes: Count = 128 * MIB
    max_uploads: Count = 256
    upload_s: float = Field(default=600.0, gt=0, le=86400, allow_inf_nan=False)
    max_page_streams: Count = 512

    idempotency_s: float = Field(default=600.0, ge=0, allow_inf_nan=False)

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
