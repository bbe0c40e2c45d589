"""Fields of a request that other servers and the programs in between have beside OpenAI's."""

from __future__ import annotations

from vlm_dlm_app.schemas.fields.rules import Field, ignored, refused
from vlm_dlm_app.schemas.fields.samplers import OFF, SAMPLERS

_VLLM, _SGLANG, _LLAMA, _OLLAMA = "vLLM", "SGLang", "llama.cpp", "Ollama"
_ENGINES = "vLLM, SGLang"
_LITELLM, _OPENROUTER, _WEBUI = "LiteLLM", "OpenRouter", "Open WebUI"
_ANTHROPIC, _QWEN = "Anthropic", "Qwen"
_NO_TOKENS = "tokens are not listed in answers here"
_ONE_TEMPLATE = "the conversation is written by the checkpoint's own template"
_BOOKKEEPING = "bookkeeping of the program that sends it"
_ROUTING = "it chooses among servers, and this is one"

_OTHER_NAMES = (
    refused(
        "n_predict num_predict",
        "llama.cpp, Ollama",
        "the limit has another name here",
        -1,
        instead="send it as max_tokens",
    ),
    refused(
        "max_new_tokens max_length max_output_tokens max_gen_len",
        "TGI and others",
        "the limit has another name here",
        instead="send it as max_tokens",
    ),
    refused("stop_sequences", _ANTHROPIC, "it has another name here", instead="send it as stop"),
    refused("random_seed", "Mistral", "it has another name here", instead="send it as seed"),
    refused(
        "system",
        _ANTHROPIC,
        "it has another place here",
        instead="send it as a message of role system",
    ),
    refused(
        "options",
        _OLLAMA,
        "options stand beside the messages here",
        instead="send its fields on the top level: temperature, top_p, top_k, seed, stop",
    ),
    refused(
        "prompt input suffix",
        "completions, responses",
        "questions come in messages here",
        instead="send it as a message of role user",
    ),
    refused(
        "n_cmpl best_of",
        "llama.cpp, vLLM",
        "answers are not chosen among here",
        1,
        instead="send n for several answers",
    ),
)
_PROMPTS = (
    refused(
        "chat_template",
        _VLLM,
        _ONE_TEMPLATE,
        instead="leave it out; write the prompt as you want it in the messages",
    ),
    refused("add_generation_prompt", _VLLM, _ONE_TEMPLATE, True),
    refused("add_special_tokens echo continue_final_message", _ENGINES, _ONE_TEMPLATE, False),
    refused("documents", "vLLM, Groq", _ONE_TEMPLATE, instead="put their text into a message"),
    refused(
        "input_ids prompt_token_ids prompt_embeds",
        _SGLANG,
        "prompts are texts and images here",
        instead="send messages",
    ),
    refused(
        "truncate_prompt_tokens truncate",
        "vLLM, TGI",
        "prompts are not cut here",
        instead="leave it out and send what is to be read",
    ),
    ignored(
        "truncation_side n_keep n_discard n_cache_reuse", "vLLM, llama.cpp", "prompts are not cut"
    ),
    ignored(
        "num_ctx context_length ctx_len truncation_length",
        "Ollama, LM Studio",
        "the context is the model's own",
    ),
    refused(
        "mm_processor_kwargs media_io_kwargs images_config",
        _ENGINES,
        "pictures are scaled to the model's own size",
        instead="leave it out and send pictures of the size you want",
    ),
    refused(
        "max_dynamic_patch min_dynamic_patch",
        _SGLANG,
        "pictures are scaled to the model's own size",
    ),
    refused(
        "vl_high_resolution_images use_audio_in_video",
        "Qwen, SGLang",
        "pictures are scaled to the model's own size",
        False,
    ),
    refused("lora lora_path adapter_id", "llama.cpp, SGLang", "adapters are chosen by the server"),
    refused(
        "enable_search search_parameters data_sources plugins",
        "Qwen, xAI, Azure, OpenRouter",
        "nothing is searched for here",
        False,
    ),
    ignored("search_options", _QWEN, OFF),
    refused("safe_prompt", "Mistral", "prompts are not added to here", False),
    refused("preset task", "OpenRouter, SGLang", "there are no such presets here"),
)
_REPLIES = (
    refused("prompt_logprobs n_probs", "vLLM, llama.cpp", "probabilities are not sent here", 0),
    refused(
        "return_token_ids return_tokens return_tokens_as_token_ids return_token_offsets "
        "return_prompt_token_ids",
        _ENGINES,
        _NO_TOKENS,
        False,
    ),
    refused(
        "return_prompt_text return_hidden_states return_routed_experts",
        _ENGINES,
        "it is not part of answers here",
        False,
    ),
    refused(
        "return_full_text details decoder_input_details",
        "TGI",
        "it is not part of answers here",
        False,
    ),
    refused("response_fields", _LLAMA, "answers are always whole"),
    ignored("routed_experts_prompt_start routed_experts_start_len", _ENGINES, OFF),
    ignored(
        "return_cached_tokens_details return_meta_info usage timings_per_token "
        "return_progress stream_interval incremental_output",
        "SGLang, OpenRouter, llama.cpp, Qwen",
        "every reply has `usage`, `timings` and `metrics`",
    ),
    ignored(
        "return_mm_kwargs post_sampling_probs sse_ping_interval result_format",
        "vLLM, llama.cpp, Qwen",
        "the answer is the same",
    ),
    ignored(
        "include_reasoning separate_reasoning stream_reasoning reasoning_format",
        "vLLM, SGLang, Groq, llama.cpp",
        "it moves the thought, not the answer",
    ),
    ignored("spaces_between_special_tokens detokenize", _VLLM, "answers are text as it is written"),
)
_BETWEEN = (
    ignored(
        "request_id rid cache_salt extra_key id_slot cache_prompt ngram_corpus_id",
        _ENGINES + ", llama.cpp",
        "requests have ids here, and prompts are cached by what they are",
    ),
    ignored(
        "bootstrap_host bootstrap_port bootstrap_room routed_dp_rank disagg_prefill_dp_rank "
        "data_parallel_rank",
        _SGLANG,
        _ROUTING,
    ),
    refused(
        "kv_transfer_params ec_transfer_params vllm_xargs session_params",
        _ENGINES,
        "there is nothing here that reads it",
    ),
    ignored(
        "session_id conversation_id thread_id chat_id message_id parent_id parent_message id "
        "background_tasks features variables model_item filter_ids tool_ids tool_servers "
        "terminal_id user_id",
        _WEBUI + " and others",
        _BOOKKEEPING,
    ),
    refused(
        "files",
        _WEBUI,
        "files are not looked up here",
        instead="put pictures into a message as image_url parts",
    ),
    ignored("provider route models transforms trace debug image_config", _OPENROUTER, _ROUTING),
    ignored(
        "drop_params additional_drop_params allowed_openai_params api_base api_version "
        "base_url custom_llm_provider fallbacks num_retries max_retries timeout "
        "request_timeout stream_timeout caching cache no-log no_log tags guardrails "
        "proxy_server_request extra_headers extra_query headers trace_id generation_name",
        _LITELLM + ", LangChain",
        _BOOKKEEPING,
    ),
    refused("mock_response", _LITELLM, "answers are the model's own"),
    ignored(
        "keep_alive ttl draft_model engine",
        "Ollama, LM Studio, Azure",
        "the model stays loaded, and its drafts change no answer",
    ),
    ignored(
        "anthropic_version anthropic_beta betas context_management",
        _ANTHROPIC,
        "it names a version of another API",
    ),
    ignored(
        "backend_sampling parse_tool_calls disable_tool_validation tool_stream",
        "llama.cpp, Groq",
        "no tool is called",
    ),
    refused("deferred", "xAI", "answers are sent at once", False),
)

EXTRAS: tuple[Field, ...] = (
    *_OTHER_NAMES,
    *SAMPLERS,
    *_PROMPTS,
    *_REPLIES,
    *_BETWEEN,
)
