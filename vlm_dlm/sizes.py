"""How numbers of bytes are told."""

from __future__ import annotations


def size_text(num_bytes: float) -> str:
    """'17.8 GB', '13.5 MB' or '0.4 kB', in powers of ten like file managers."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes / 1000:.1f} kB"
