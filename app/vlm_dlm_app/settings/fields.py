"""What an operator may set: types, ranges, defaults, and the words that docs/serving.md shows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from vlm_dlm.request import MAX_STOP_CHARS, MAX_STOP_STRINGS

MIB = 2**20

Count = Annotated[int, Field(ge=1)]
Texts = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class SettingFields(BaseSettings):
    """In the order of the page; what depends on another field is checked in `model.py`. Sizes in
    bytes, `_s` in seconds. Descriptions are Markdown; `make docs` writes them into the page."""

    model: str | None = Field(default=None, description="checkpoint folder or Hub id")
    model_name: str = Field(
        default="vlm-dlm",
        pattern=r"^[A-Za-z0-9._/-]{1,100}$",
        description="id shown to clients",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="`cpu` or `cuda`")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="`float32` or `bfloat16`",
    )
    quantize: Literal["int8", "int4"] | None = Field(
        default=None,
        description="`int8` or `int4`: the decoder's matrices in fewer bits, [what it saves and "
        "costs](checkpoint.md#6-quantization); needs torchao",
    )
    adapter: str | None = Field(
        default=None,
        description="draft adapter for `linear_spec`, a PEFT folder",
    )
    single_process: bool = Field(
        default=False,
        description="run the engine in the server's own process",
    )
    spare_engine: bool = Field(
        default=True,
        description="keep a second engine process with its imports done, which takes over when the"
        " first is lost: seconds saved for some 270 MiB",
    )
    engine: Literal["torch", "scripted"] = Field(
        default="torch",
        description="`scripted` replays words instead of running a model, for work on clients",
    )
    script_words: Texts = Field(default=(), description="words of the scripted engine")
    script_step_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        allow_inf_nan=False,
        description="seconds it takes for each",
    )

    backend: Literal["own", "vllm"] = Field(
        default="own",
        description="`vllm` runs `ar` on [vLLM](vllm.md); the flag `--vllm-url` implies it",
    )
    vllm_alone: bool = Field(
        default=False,
        description="offer only what vLLM runs, and start no engine of our own; flags that are for"
        " that engine are then refused",
    )
    vllm_python: str | None = Field(
        default=None,
        description="interpreter of the environment that has vLLM; without, the server's own; as a"
        " flag refused where no vLLM is started here",
    )
    vllm_url: str | None = Field(
        default=None,
        description="a vLLM server that runs already, as `http://gpu-host:8000`; none is started "
        "then",
    )
    vllm_args: str | None = Field(
        default=None,
        description="further arguments for the vLLM that is started, as on a command line: "
        "`--max-model-len 32768`",
    )
    vllm_model: str | None = Field(
        default=None,
        description="the name under which the one at `vllm_url` serves the model; without, its "
        "first",
    )
    vllm_api_key: SecretStr | None = Field(default=None, description="key of the one at `vllm_url`")

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        max_length=255,
        description="address to bind",
    )
    port: int = Field(default=8000, ge=0, le=65535, description="0 takes a free one")
    api_keys: Secrets = Field(
        default=(),
        description="keys of which clients must send one as `Authorization: Bearer KEY`; none lets"
        " anybody ask",
    )
    protect_metrics: bool = Field(default=False, description="`/metrics` asks for a key too")
    allowed_hosts: Texts = Field(
        default=(),
        description="further host names that clients may use; without any, all do unless bound to "
        "this machine alone",
    )
    allow_origins: Texts = Field(default=(), description="web pages of other origins that may call")
    trusted_proxies: Texts = Field(
        default=(),
        description="addresses or networks of proxies that are believed when they say who asked, "
        "by which scheme and host and below which path; `loopback` for this machine, "
        "`unix` for a socket in the file system; see "
        "[security.md](security.md#a-proxy-with-tls)",
    )
    root_path: str | None = Field(
        default=None,
        description="the path below which a proxy shows the server, as `/vlm`; it may take it off "
        "or leave it on",
    )
    allow_image_urls: bool = Field(
        default=False,
        description="fetch images by https URL, for 8 requests at once, 4 of one client; never "
        "from private addresses",
    )
    allow_http_urls: bool = Field(
        default=False,
        description="by http URL too; needs `allow_image_urls`",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="`debug`, `info`, `warning` or `error`",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="`json` writes one object per line",
    )
    otel_endpoint: str | None = Field(
        default=None,
        description="send [traces](operate.md#traces) to the OpenTelemetry collector there, as "
        "`http://localhost:4318`",
    )

    max_connections: Count = Field(
        default=1024,
        description="open at once; beyond it the one that has been idle longest is closed, and a "
        "new one refused where none is",
    )
    max_client_connections: Count = Field(
        default=512,
        description="of one address, or of one network (/64) of IPv6; those of `trusted_proxies` "
        "count for nobody in particular",
    )
    keep_alive_s: float = Field(
        default=75.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds a connection may be idle between requests; more than the proxy in "
        "front keeps it",
    )
    max_body_bytes: Count = Field(default=25 * MIB, description="of one body")
    max_held_body_bytes: Count = Field(
        default=256 * MIB,
        description="of all bodies over 64 KiB being worked on, and of reports and answers on the "
        "page that are not read yet; no more than a tenth of the [memory that is "
        "left](operate.md#sizing); half of it for one client",
    )
    body_s: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds for a body to arrive",
    )
    send_s: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="seconds until a reader who does not take what waits, 64 KiB of an answer at a"
        " time, is given up",
    )
    max_images: Count = Field(default=8, description="of one request")
    max_image_bytes: Count = Field(default=20 * MIB, description="of one image")
    max_image_pixels: Count = Field(default=40_000_000, description="of one image")
    max_request_pixels: Count = Field(default=80_000_000, description="of all images of a request")
    max_prompt_chars: Count = Field(default=32_000, description="of all texts of a request")
    max_messages: Count = Field(default=64, description="of one request")
    max_json_depth: Count = Field(default=32, description="levels of nesting")
    max_tokens_limit: Count = Field(default=4096, description="largest `max_tokens`")
    max_n: Count = Field(default=4, description="answers to one request")
    max_stop: Count = Field(
        default=4, le=MAX_STOP_STRINGS, description="stop strings of one request"
    )
    max_stop_chars: Count = Field(default=64, le=MAX_STOP_CHARS, description="of one stop string")

    max_waiting: Count = Field(default=64, description="requests that may wait")
    max_waiting_tokens: Count = Field(default=65536, description="prompt tokens that may wait")
    max_running: Count | None = Field(default=None, description="answers worked on at once")
    max_cache_tokens: Annotated[int, Field(ge=256)] | None = Field(
        default=None,
        description="tokens of prompts and answers that are kept at once, else 32768; fewer leave "
        "memory to the weights",
    )
    deadline_s: float = Field(
        default=300.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds for an answer whose request names no deadline",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds to finish in at the end",
    )
    page: bool = Field(default=True, description="show the page at `/`")
    page_mcp: bool = Field(
        default=False,
        description="offer the page's named endpoints as MCP tools",
    )
    max_upload_bytes: Count = Field(
        default=128 * MIB,
        description="of all pictures that lie uploaded on the page, half of it for one client",
    )
    max_uploads: Count = Field(default=256, description="such pictures, half of them of one client")
    upload_s: float = Field(
        default=600.0,
        gt=0,
        le=86400,
        allow_inf_nan=False,
        description="seconds that one is kept",
    )
    max_page_streams: Count = Field(
        default=512,
        description="connections of the page that stay open, half of them of one client",
    )

    idempotency_s: float = Field(
        default=600.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds an answer is kept for its Idempotency-Key",
    )
