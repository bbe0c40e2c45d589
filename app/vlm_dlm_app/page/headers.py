"""Headers of the page's files: nothing may be loaded from, or sent to, anywhere else."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

# Gradio compiles the templates of its parts in the browser, hence the two `unsafe` words. What may
# be reached stays `self`, so a script that slipped in could send nothing away.
_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
PAGE_HEADERS = {
    "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}
# Their names change with their content.
HASHED_PREFIX = "/assets/"
_FOR_EVER = "public, max-age=31536000, immutable"


def add_headers(path: str, status: int, headers: MutableHeaders) -> None:
    """Set what an answer of the page carries."""
    for name, value in PAGE_HEADERS.items():
        headers[name] = value
    if path.startswith(HASHED_PREFIX) and status < 400:
        headers["Cache-Control"] = _FOR_EVER
