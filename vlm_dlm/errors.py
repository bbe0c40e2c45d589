"""Every error the library raises on purpose. One root to catch.

VlmDlmError
|-- BadInputError            what was sent cannot be served; the message says why
|   |-- ImageError           an image that is unreadable or over a limit
|   |   |-- ImageTooLargeError   over a limit of bytes, pixels or sides
|   |   `-- ImageFormatError     not in one of the formats that are read
|   |-- PromptError          a prompt that is empty or contradicts its images
|   |   `-- ContextLengthError   a prompt, with the answer asked for, beyond the model's context
|   |-- StructureError       a schema or grammar that is not valid, or beyond a limit
|   `-- ModeError            an unknown mode, or parameters that the mode cannot run
|-- CheckpointError          a checkpoint that is missing, incomplete or of the wrong shape
|-- CapacityError            the request can never fit into this engine
|-- BusyError                not now; `retry_after_s` says when to try again
|   |-- QueueFullError       too much is waiting already
|   `-- UnavailableError     the engine is loading, draining or down
|-- DeadlineError            the request's deadline passed before it was done
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


class ImageTooLargeError(ImageError):
    """An image, or all of a request together, is over a limit of bytes, pixels or sides."""

    code = "image_too_large"


class ImageFormatError(ImageError):
    """An image is not in one of the formats that are read."""

    code = "unsupported_image"


class PromptError(BadInputError):
    """A prompt does not fit the model or contradicts its images."""

    code = "bad_prompt"


class ContextLengthError(PromptError):
    """A prompt, with the answer that was asked for, exceeds the model's context."""

    code = "context_length_exceeded"


class StructureError(BadInputError):
    """What the answer is to be like is not valid, too large or too much work."""

    code = "bad_structure"


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


class BusyError(VlmDlmError):
    """The request is fine but cannot be taken now. retry_after_s: whole seconds."""

    code = "busy"

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFullError(BusyError):
    """As much is waiting as may wait."""

    code = "queue_full"


class UnavailableError(BusyError):
    """The engine is loading, draining or down."""

    code = "unavailable"


class DeadlineError(VlmDlmError):
    """The request's deadline passed before it was done."""

    code = "deadline_exceeded"


# How an error is known again across a process boundary.
BY_CODE: dict[str, type[VlmDlmError]] = {
    cls.code: cls
    for cls in (
        VlmDlmError,
        BadInputError,
        ImageError,
        ImageTooLargeError,
        ImageFormatError,
        PromptError,
        ContextLengthError,
        ModeError,
        StructureError,
        CheckpointError,
        CapacityError,
        EngineError,
        BusyError,
        QueueFullError,
        UnavailableError,
        DeadlineError,
    )
}
