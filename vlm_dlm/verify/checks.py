"""The table of questions. Those about files need no weights and come first."""

from __future__ import annotations

from vlm_dlm.verify import record_check as record
from vlm_dlm.verify import template_checks as template
from vlm_dlm.verify import tensor_checks as tensors
from vlm_dlm.verify import token_checks as tokens
from vlm_dlm.verify.files import CheckpointFiles
from vlm_dlm.verify.finding import Check

OTHER_FILE = "none: another tokenizer.json; fetch the pinned revision again"
TEMPLATE = "chat_template.jinja in the checkpoint folder, which is always followed"

FILE_CHECKS: tuple[Check[CheckpointFiles], ...] = (
    Check(
        "tensor_list",
        "the tensors of docs/checkpoint.md, derived from the modules",
        "none: weights of another network are refused",
        tensors.tensor_list,
    ),
    Check(
        "stray_tensors",
        "no tensor beyond those, or only leftovers of known exporters",
        "TOLERATED_SUFFIXES in vlm_dlm/checkpoint/manifest.py",
        tensors.stray_tensors,
    ),
    Check("storage_dtype", "BF16 throughout", "--dtype", tensors.storage_dtype),
    Check(
        "draft_adapter",
        "the checkpoint brings no draft adapter; one that is given fits",
        "--adapter DIR, such as the checkpoint's folder linear_spec_lora",
        tensors.draft_adapter,
    ),
    Check(
        "recorded_files",
        "a fetched checkpoint is what was fetched",
        "none: fetch it again, or delete fetched.json to accept the change",
        record.recorded_files,
    ),
    Check("chat_markers", "<|im_start|> 10, <|im_end|> 11", OTHER_FILE, tokens.chat_markers),
    Check(
        "think_markers",
        "<think> 12, </think> 13, not flagged special",
        "none: ids are read from tokenizer.json",
        tokens.think_markers,
    ),
    Check("end_of_text", "<s> 1, </s> 2", "none: ids are read from the file", tokens.end_of_text),
    Check("image_tokens", "start 18, pad 19, break 20, end 21", OTHER_FILE, tokens.image_tokens),
    Check(
        "image_constant",
        "image features replace id 19, whatever config.json calls it",
        "none: the id of <|image_pad|> in tokenizer.json is used",
        tokens.image_constant,
    ),
    Check(
        "mask_token",
        "the decoding mask is <SPECIAL_100>, id 100, and not |<MASK>|, id 131072",
        "mask_token_id in config.json",
        tokens.mask_token,
    ),
    Check("end_token", "answers end with 11", "eos_token_id in config.json", tokens.end_token),
    Check(
        "pad_token",
        "the pad id means nothing: prompts are packed, never padded",
        "none: make sure that no prompt holds this id",
        tokens.pad_token,
    ),
    Check("vocabulary", "the table tekken_240911, id = rank + 1000", OTHER_FILE, tokens.vocabulary),
    Check("template_file", "the checkpoint ships a template", TEMPLATE, template.template_file),
    Check(
        "system_turn",
        "without a system message there is a system turn, and it is empty",
        f"--system TEXT, or {TEMPLATE}",
        template.system_turn,
    ),
    Check("no_bos", "no <s> in front", TEMPLATE, template.no_bos),
    Check("user_turn", "ChatML", TEMPLATE, template.user_turn),
    Check(
        "closed_thought",
        "thinking off closes the thought at once, thinking on opens it",
        f"--max-thinking-tokens N turns thinking on; {TEMPLATE}",
        template.closed_thought,
    ),
    Check("image_marker", "one <|image_start|> per image", TEMPLATE, template.image_marker),
)
