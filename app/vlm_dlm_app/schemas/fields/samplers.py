"""Fields of a request that choose tokens in ways that other servers have."""

from __future__ import annotations

from vlm_dlm_app.schemas.fields.rules import Field, honoured, ignored, refused

_VLLM, _SGLANG, _LLAMA, _OLLAMA = "vLLM", "SGLang", "llama.cpp", "Ollama"
_ENGINES = "vLLM, SGLang"
_NO_SAMPLER = "there is no such sampler here"
_TEXTGEN = "text-generation-webui, TGI"
OFF = "it tunes what is off unless another field switches it on"

_FORMATS = (
    honoured(
        "structured_outputs",
        _VLLM,
        "the form of the answer: `json`, `regex`, `choice`, `grammar` or `json_object`; "
        "[what it does](structured.md)",
    ),
    honoured(
        "guided_json guided_regex guided_choice guided_grammar",
        "vLLM, older",
        "the same, each alone",
    ),
    ignored("guided_decoding_backend guided_whitespace_pattern", _VLLM, OFF),
    honoured("regex ebnf", _SGLANG, "the same"),
    honoured("grammar", _LLAMA, "the same, as GBNF or Lark"),
    honoured("json_schema", "llama.cpp, SGLang", "the same, as an object or text"),
    honoured("format", _OLLAMA, "the same: `json`, or a JSON schema"),
    ignored("grammar_lazy grammar_triggers", _LLAMA, OFF),
)
_SAMPLERS = (
    honoured("repetition_penalty", _ENGINES, "of what prompt and answer have already"),
    honoured("bad_words", _VLLM, "texts that do not come, as the tokenizer cuts them"),
    refused(
        "repeat_penalty",
        "llama.cpp, Ollama",
        "it has another name here",
        1,
        instead="send it as repetition_penalty",
    ),
    refused("length_penalty", _VLLM, "there is no beam search here", 1),
    refused("use_beam_search early_stopping", _VLLM, "there is no beam search here", False),
    refused("num_beams", "transformers", "there is no beam search here", 1),
    refused(
        "do_sample",
        "transformers",
        "sampling is chosen by temperature here",
        True,
        instead="leave it out; temperature 0 is greedy",
    ),
    refused("typical_p typ_p tfs tfs_z", "llama.cpp, others", _NO_SAMPLER, 1),
    refused(
        "top_a dynatemp_range xtc_probability dry_multiplier mirostat mirostat_mode",
        "llama.cpp, OpenRouter",
        _NO_SAMPLER,
        0,
    ),
    refused("top_n_sigma adaptive_target", _LLAMA, _NO_SAMPLER, -1, 0),
    refused(
        "epsilon_cutoff eta_cutoff smoothing_factor no_repeat_ngram_size penalty_alpha",
        _TEXTGEN,
        _NO_SAMPLER,
        0,
    ),
    refused("guidance_scale", _TEXTGEN, _NO_SAMPLER, 1),
    refused("negative_prompt", _TEXTGEN, _NO_SAMPLER),
    refused("samplers sampler_order sampler_priority", _LLAMA, "the order is fixed here"),
    ignored(
        "repeat_last_n penalize_nl repetition_penalty_range dynatemp_exponent xtc_threshold "
        "dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat_tau "
        "mirostat_eta adaptive_decay smoothing_curve min_keep",
        "llama.cpp, others",
        OFF,
    ),
    refused(
        "logits_processors custom_logit_processor custom_params",
        _ENGINES,
        "no code of clients is run here",
    ),
    refused(
        "allowed_token_ids logprob_token_ids",
        _VLLM,
        "single tokens cannot be asked for here",
    ),
    refused("repetition_detection", _VLLM, "repetition ends no answer here"),
    refused("stop_regex", _SGLANG, "stops are plain texts here", instead="send texts as stop"),
    refused(
        "include_stop_str_in_output no_stop_trim",
        _ENGINES,
        "answers end before the stop text",
        False,
    ),
    refused(
        "n_indent t_max_predict_ms",
        _LLAMA,
        "there is no such limit here",
        0,
        -1,
        instead="leave it out; deadline_s is seconds for the whole answer",
    ),
    refused(
        "ban_eos_token",
        _TEXTGEN,
        "it has another name here",
        False,
        instead="send it as ignore_eos",
    ),
    refused("watermark watermarking", "TGI, vLLM", "answers are not marked here", False),
)

SAMPLERS: tuple[Field, ...] = (*_FORMATS, *_SAMPLERS)
