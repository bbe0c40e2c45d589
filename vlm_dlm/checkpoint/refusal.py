"""The Hub's 'no' in one sentence. Free of the Hub's client until it is needed."""

from __future__ import annotations

from vlm_dlm.errors import CheckpointError


def hub_refusal(repo: str, revision: str | None, fault: Exception) -> str | None:
    """What the Hub itself answered; None when it did not answer."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(fault, GatedRepoError):
        return f"{repo} is gated; accept its licence on the Hub and set HF_TOKEN"
    if isinstance(fault, RepositoryNotFoundError):
        return f"no folder and no public Hub repository {repo}; check the spelling or HF_TOKEN"
    if isinstance(fault, RevisionNotFoundError):
        return f"{repo} has no revision {revision}; leave the revision out for the default"
    if isinstance(fault, HFValidationError):
        return f"{repo} is neither a folder nor a valid Hub id"
    if isinstance(fault, HfHubHTTPError) and fault.response.status_code in (401, 403):
        return f"the Hub does not let this token read {repo}; check HF_TOKEN"
    return None


def as_checkpoint_error(repo: str, revision: str | None, fault: Exception) -> CheckpointError:
    """Any failure of asking the Hub: its refusal, or that it cannot be reached."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    refusal = hub_refusal(repo, revision, fault)
    if refusal is not None:
        return CheckpointError(refusal)
    if isinstance(fault, HfHubHTTPError):
        status = fault.response.status_code
        return CheckpointError(f"the Hub answered {status} when asked for {repo}; try again later")
    return CheckpointError(
        f"the Hub at {constants.ENDPOINT} cannot be reached ({type(fault).__name__}); "
        "check the network, HF_ENDPOINT and the proxy"
    )
