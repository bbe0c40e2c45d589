"""Fields of what stands within a request: messages, their parts, and options of options."""

from __future__ import annotations

from vlm_dlm_app.schemas.fields.rules import Place, honoured, ignored, refused

_SCALED = "pictures are scaled to the model's own size"
_REMARKS = "A field that is not listed is a remark of the program that wrote it, and is ignored."
_PIXELS = (
    "min_pixels max_pixels total_pixels resized_height resized_width max_dynamic_patch "
    "min_dynamic_patch image_processor_kwargs"
)

MESSAGE = Place(
    "A message",
    "What the model reads is the role, the content and calls of tools with their results. "
    + _REMARKS,
    (
        honoured(
            "role",
            "OpenAI",
            "`system`, `developer`, `user`, `assistant`, `tool` or `function`, in any case",
        ),
        honoured("content", "OpenAI", "a text, a part, or a list of texts and parts"),
        honoured("tool_calls", "OpenAI", "of the assistant: written into its turn as text"),
        honoured("function_call", "OpenAI, older", "as one of `tool_calls`"),
        honoured("images", "Ollama", "a list of pictures, which come before the text"),
        honoured("refusal", "OpenAI", "of the assistant: its text where there is no content"),
        ignored(
            "reasoning reasoning_content reasoning_details thinking thinking_blocks "
            "thinking_signature",
            "vLLM, DeepSeek, OpenRouter, LiteLLM, Ollama",
            "past thoughts are not shown to the model",
        ),
        ignored("name tool_call_id tool_name", "OpenAI, Ollama", "results follow their calls"),
        ignored(
            "cache_control prompt_cache_breakpoint",
            "Anthropic, OpenAI",
            "prompts are cached by what they are",
        ),
        ignored(
            "annotations provider_specific_fields provider_metadata citations metadata id "
            "index created_at timestamp usage timings metrics finish_reason model weight tools",
            "OpenAI, LiteLLM and others",
            "remarks on an answer that was given",
        ),
        refused("audio audios videos video", "OpenAI, Ollama", "only texts and pictures are read"),
        refused(
            "prefix partial continue prefill",
            "Mistral, DeepSeek, Qwen",
            "an answer cannot be begun for the model here",
            False,
        ),
    ),
    ignores_unknown=True,
)

PART = Place(
    "A part of a message",
    "Texts are `text`, `input_text` and `output_text`; pictures `image_url`, `input_image`, "
    "`image`, and `file` or `input_file` whose data is a picture; `tool_use` and `tool_result` are "
    "read as calls and results; thoughts of the assistant are left out. The type may be missing "
    "where the part has `text`, `image_url` or `image`. " + _REMARKS,
    (
        honoured("type text", "OpenAI", "what it is"),
        honoured("image_url", "OpenAI", "an object with `url`, or the URL itself"),
        honoured(
            "image url source data base64 file file_data",
            "Qwen, Anthropic, MCP, LangChain, OpenAI",
            "the picture: a data URI, base64, or an URL where those are fetched",
        ),
        honoured(
            "media_type mime_type mimeType mediaType",
            "Anthropic, LangChain, MCP, Vercel",
            "of a picture that is given as base64",
        ),
        honoured("refusal", "OpenAI", "the text of a part of type `refusal`"),
        honoured("name input content", "Anthropic", "of `tool_use` and `tool_result`"),
        ignored("detail", "OpenAI", _SCALED + " in any case"),
        ignored(
            "cache_control prompt_cache_breakpoint annotations citations filename uuid "
            "provider_specific_fields tool_use_id id index",
            "Anthropic, OpenAI, vLLM, LiteLLM",
            "they are remarks",
        ),
        refused(
            "file_id",
            "OpenAI, Anthropic",
            "files are not kept here",
            instead="send the picture itself as a data URI",
        ),
        refused(_PIXELS, "Qwen, SGLang", _SCALED),
        refused("modalities", "SGLang", _SCALED, "image", "multi-images"),
    ),
    ignores_unknown=True,
)

IMAGE_URL = Place(
    "`image_url` and other objects that hold a picture",
    _REMARKS,
    (
        honoured("url", "OpenAI", "a data URI, base64, or an URL where those are fetched"),
        honoured("data base64 file_data", "Anthropic, LangChain, OpenAI", "base64 or a data URI"),
        honoured("media_type mime_type", "Anthropic, LangChain", "of base64"),
        refused(
            "file_id",
            "OpenAI, Anthropic",
            "files are not kept here",
            instead="send the picture itself as a data URI",
        ),
        ignored("detail", "OpenAI", _SCALED + " in any case; every value is taken"),
        ignored(
            "type format filename content_hash uuid",
            "Anthropic, LiteLLM, SGLang, vLLM",
            "the picture says itself what it is",
        ),
        refused(_PIXELS, "Qwen, SGLang", _SCALED),
    ),
    ignores_unknown=True,
)

STREAM_OPTIONS = Place(
    "`stream_options`",
    "Without `stream` they mean nothing and are ignored. A field that is not listed is refused "
    "unless it is null or empty.",
    (
        honoured("include_usage", "OpenAI", "one more chunk with the usage"),
        honoured("continuous_usage_stats", "vLLM, SGLang", "every chunk has the usage so far"),
        honoured("include_drafts", "vlm-dlm", "the block being written, as events `draft`"),
        ignored("include_obfuscation", "OpenAI", "it pads chunks, which are not padded here"),
    ),
    ignores_unknown=False,
)

# Fields that say whether to think first, and objects that hold them.
WISHES = ("enable_thinking", "thinking", "think", "reasoning", "reasoning_effort")
HOLDERS = ("chat_template_kwargs", "extra_body")

THINKING_OPTIONS = Place(
    "`chat_template_kwargs` and `extra_body`",
    "A field that is not listed is refused unless it is null or empty.",
    (
        honoured(
            " ".join(WISHES + HOLDERS),
            "vLLM, SGLang, Qwen",
            "as on the top level",
        ),
        ignored("preserve_thinking clear_thinking", "Qwen, GLM", "past thoughts are never shown"),
        refused("add_generation_prompt", "vLLM", "it is always added", True),
        refused("add_vision_id", "Qwen", "pictures are not numbered", False),
    ),
    ignores_unknown=False,
)
