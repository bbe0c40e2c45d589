"""Fields of a request that OpenAI's own API has, and ours beside them."""

from __future__ import annotations

from vlm_dlm_app.schemas.common import REQUEST_OPTIONS
from vlm_dlm_app.schemas.fields.extras import EXTRAS
from vlm_dlm_app.schemas.fields.nested import HOLDERS, WISHES
from vlm_dlm_app.schemas.fields.rules import Place, honoured, ignored, refused

OPENAI, OWN, OLD = "OpenAI", "vlm-dlm", "OpenAI, older"
# Notes that programs send to themselves through whatever is in between.
HARMLESS = ("litellm_", "langfuse_", "x-", "x_", "_")

_ANSWER = (
    honoured("messages", OPENAI, "the conversation"),
    honoured("model", OPENAI, "the model's id, or with a mode `NAME:ar`; empty is the model"),
    honoured("stream", OPENAI, "server-sent events"),
    honoured("stream_options", OPENAI, "see below; without `stream` it means nothing"),
    honoured("max_completion_tokens", OPENAI, "limit of tokens; -1 is as many as fit"),
    honoured("max_tokens", OLD, "the same; both may be given if they are equal"),
    honoured("n", OPENAI, "several answers, up to the server's `max_n`"),
    honoured("temperature top_p", OPENAI, "sampling; greedy without a temperature"),
    honoured("seed", OPENAI, "any whole number of 64 bits; -1 draws one, as in llama.cpp"),
    honoured(
        "response_format",
        OPENAI,
        "the form of the answer: `text`, `json_object` or `json_schema`; "
        "[what it does](structured.md)",
    ),
    honoured("logprobs", OPENAI, "log-probabilities of every token"),
    honoured("top_logprobs", OPENAI, "and of so many of the best at its place, with `logprobs`"),
    honoured("frequency_penalty presence_penalty", OPENAI, "of what the answer has already"),
    honoured("logit_bias", OPENAI, "by token id"),
    honoured("stop", OPENAI, "a text or a list; empty ones count as not given"),
)
_TOOLS = (
    honoured(
        "tools",
        OPENAI,
        "taken; the model is not shown them and calls none, which `tool_choice` `auto` allows",
    ),
    refused(
        "tool_choice",
        OPENAI,
        "the model cannot be made to call a tool here",
        "auto",
        "none",
        {"type": "auto"},
        {"type": "none"},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}},
        instead='send "auto" or "none" and ask for the call in the prompt',
    ),
    honoured("functions", OLD, "as `tools`"),
    refused(
        "function_call",
        OLD,
        "the model cannot be made to call a function here",
        "auto",
        "none",
        instead='send "auto" or "none" and ask for the call in the prompt',
    ),
    ignored("parallel_tool_calls", OPENAI, "no tool is called"),
)
_REFUSED = (
    refused("modalities", OPENAI, "answers are text", ["text"]),
    refused("audio", OPENAI, "answers are text"),
    refused(
        "verbosity",
        OPENAI,
        "there is no such control here",
        "medium",
        instead="say in the prompt how long the answer should be, or limit max_tokens",
    ),
    refused("web_search_options", OPENAI, "nothing is searched for here"),
    refused("moderation", OPENAI, "nothing is moderated here"),
)
_THINKING = (
    honoured(
        " ".join(WISHES),
        "Qwen, Anthropic, DeepSeek, Ollama, OpenRouter, OpenAI",
        "whether the model thinks first: a boolean, an effort, or an object that says it",
    ),
    honoured(
        " ".join(HOLDERS),
        "vLLM, SGLang, llama.cpp",
        "the same, see below; nothing else in them",
    ),
    ignored(
        "thinking_budget thinking_token_budget reasoning_budget",
        "Qwen, vLLM, llama.cpp",
        "thoughts end by themselves or at `max_tokens`",
    ),
)
_IGNORED = (
    ignored("user safety_identifier", OPENAI, "turns are shared out by key or address"),
    ignored("metadata store", OPENAI, "nothing is stored"),
    ignored("service_tier", OPENAI, "there is one; see `priority`"),
    ignored(
        "prompt_cache_key prompt_cache_options prompt_cache_retention",
        OPENAI,
        "prompts are cached by what they are",
    ),
    ignored("prediction", OPENAI, "it is meant to save time, not to change the answer"),
)
_NAMES = [option.request_names for option in REQUEST_OPTIONS]
_PLAIN = [names[0] for names in _NAMES if len(names) == 1]
_SEVERAL = [names for names in _NAMES if len(names) > 1]
_OWN = (
    honoured("generation_mode", OWN, "the mode, if the model's id does not name it"),
    honoured(" ".join(_PLAIN), OWN, "options of modes"),
    *(honoured(" ".join(names), OWN, "the same option") for names in _SEVERAL),
    honoured("deadline_s", OWN, "seconds for the whole answer"),
    honoured(
        "priority",
        "vlm-dlm, vLLM, SGLang",
        "`interactive` or `batch`; of the numbers of others 0, which is no wish",
    ),
)
_SHARED = (
    honoured("top_k", "vLLM, SGLang, llama.cpp", "0 or -1 for all"),
    honoured("min_p", "vLLM, SGLang, llama.cpp", "least share of the best token's probability"),
    honoured("min_tokens", "vLLM, SGLang", "the answer does not end before"),
    honoured("ignore_eos", "vLLM, SGLang, llama.cpp", "the end token ends nothing"),
    honoured("stop_token_ids", "vLLM, SGLang", "further tokens that end the answer"),
    honoured("skip_special_tokens", "vLLM, SGLang", "false shows them"),
)

REQUEST = Place(
    "The request",
    "A field that is not listed may be an option that changes the answer, so it is refused, unless "
    "it is null or empty, or its name begins with "
    + ", ".join(f"`{name}`" for name in HARMLESS)
    + ".",
    (*_ANSWER, *_TOOLS, *_OWN, *_SHARED, *_REFUSED, *_THINKING, *_IGNORED, *EXTRAS),
    ignores_unknown=False,
)
