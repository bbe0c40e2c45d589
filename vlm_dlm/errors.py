"""Every error the library raises on purpose. One root to catch.

VlmDlmError
|-- BadInputError            what was sent cannot be served; the message says why
|   |-- ImageError           an image that is unreadable or over a limit
|   |-- PromptError          a prompt that does not fit or contradicts its images
|   `-- ModeError            an unknown mode, or parameters that the mode cannot run
|-- CheckpointError          a checkpoint that is missing, incomplete or of the wrong shape
|-- CapacityError            the request can never fit into this engine
`-- EngineError              the engine itself failed while a request was running
"""


class VlmDlmError(Exception):
    """Root of the tree. `code` is stable and machine readable."""

    code = "internal_error"


class BadInputError(VlmDlmError):
    """The caller's input cannot be served."""

    code = "bad_input"


class ImageError(BadInputError):
    """An image is unreadable or over a limit."""

    code = "bad_image"


class PromptError(BadInputError):
    """A prompt does not fit the model or contradicts its images."""

    code = "bad_prompt"


class ModeError(BadInputError):
    """An unknown decoding mode or parameters it cannot run."""

    code = "bad_mode"


class CheckpointError(VlmDlmError):
    """A checkpoint is missing, incomplete or does not match its config."""

    code = "bad_checkpoint"


class CapacityError(VlmDlmError):
    """The request needs more cache than this engine owns."""

    code = "over_capacity"


class EngineError(VlmDlmError):
    """The engine failed while the request was running."""

    code = "engine_error"
