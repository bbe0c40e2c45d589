"""The published family: what is known of each member before anything is asked of the Hub.

Sources: the model cards and configs of the Hub repositories; docs/checkpoint.md says which facts
are certain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vlm_dlm.checkpoint.config import TEXT_TYPE, ModelConfig
from vlm_dlm.errors import CheckpointError

FULL_MODEL = "nvidia/Nemotron-Labs-Diffusion-VLM-8B"
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?")
# All that is ever fetched of a repository: data, template and licence, never its Python code.
DATA_FILES = ["*.safetensors", "*.json", "*.jinja"]
LICENCE_FILES = ["LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "NOTICE.md"]


@dataclass(frozen=True, slots=True)
class Licence:
    """Terms of a checkpoint.

    id: short, to be typed.
    note: what to know about it, or ''.
    """

    id: str
    name: str
    url: str
    note: str = ""

    def is_named_by(self, typed: str) -> bool:
        """Whether this is what somebody typed: id or name, in any case."""
        return typed.strip().casefold() in (self.id.casefold(), self.name.casefold())


@dataclass(frozen=True, slots=True)
class Member:
    """One published checkpoint.

    revision: the commit it is pinned to, None for the newest.
    config: shapes as published; the checkpoint's own file decides once it is here.
    """

    repo: str
    revision: str | None
    licence: Licence
    config: ModelConfig


SOURCE_CODE_LICENCE = Licence(
    id="nsclv1",
    name="NVIDIA Source Code License",
    url=f"https://huggingface.co/{FULL_MODEL}",
    note="It is not the licence of the text-only models. Licences of this name usually allow "
    "non-commercial use only; the repository's own text decides.",
)
OPEN_MODEL_LICENCE = Licence(
    id="nvidia-nemotron-open-model-license",
    name="NVIDIA Nemotron Open Model License",
    url="https://www.nvidia.com/en-us/agreements/enterprise-software/"
    "nvidia-nemotron-open-model-license/",
)

_VLM = ModelConfig()
_TEXT = replace(_VLM, model_type=TEXT_TYPE, vocab_size=131072, vision=None)
_SMALL = replace(_TEXT, num_hidden_layers=26, hidden_size=3072, intermediate_size=9216)
_LARGE = replace(_TEXT, num_hidden_layers=40, hidden_size=5120, intermediate_size=16384)
_TEXT_SIZES = {"3B": _SMALL, "8B": _TEXT, "14B": _LARGE}

MEMBERS = {
    FULL_MODEL: Member(
        FULL_MODEL, "c6706ba71b824c2c61a94a804da8255c1eb5d30d", SOURCE_CODE_LICENCE, _VLM
    ),
    **{
        repo: Member(repo, None, OPEN_MODEL_LICENCE, config)
        for size, config in _TEXT_SIZES.items()
        for repo in (f"nvidia/Nemotron-Labs-Diffusion-{size}",)
    },
}


def split_hub_id(model: str) -> tuple[str, str | None]:
    """'org/name@revision' to repository and revision, which defaults to the pinned one.

    Raises CheckpointError for what is no Hub id.
    """
    found = HUB_ID.fullmatch(model)
    if found is None:
        raise CheckpointError(f"{model!r} is no Hub id; write org/name or org/name@revision")
    repo, typed = found.groups()
    return repo, typed or pinned_revision(repo)


def pinned_revision(repo: str) -> str | None:
    """The commit of a known repository, or None."""
    member = MEMBERS.get(repo)
    return None if member is None else member.revision
