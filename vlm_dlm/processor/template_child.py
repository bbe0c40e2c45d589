"""The child that renders a template of others: `python -m vlm_dlm.processor.template_child`.

Reads and answers JSON on its standard streams, each piece after its length in 4 bytes: first the
source, then one set of values after another. It ends when its input does.
"""

from __future__ import annotations

import sys
from typing import Any

from vlm_dlm.confinement import give_up_rights, limit_cpu, prefer_for_killing
from vlm_dlm.errors import CheckpointError
from vlm_dlm.limited_process import read, write
from vlm_dlm.processor.template_sandbox import Refusal, compile_template

MAX_CHARS = 2**22
MAX_REASON_CHARS = 200
# Jinja imports what it needs for errors when the first comes.
_WARM_UP = "{{ [1] | tojson }}{{ strftime_now('%d %B') }}{{ raise_exception('no') }}"


def main() -> None:
    """Arguments: address space in bytes, processor seconds for one piece."""
    memory_bytes, cpu_s = (int(text) for text in sys.argv[1:3])
    # whatever is imported late, nothing can be opened afterwards
    rendered(compile_template(_WARM_UP), {})
    prefer_for_killing()
    give_up_rights(memory_bytes)
    limit_cpu(cpu_s)
    try:
        template = compile_template(read()["source"])
    except (CheckpointError, MemoryError, RecursionError):
        write({"failed": "the checkpoint's chat template is not valid"})
        return
    write({})
    while values := read():
        limit_cpu(cpu_s)
        write(rendered(template, values))


def rendered(template: Any, values: dict[str, Any]) -> dict[str, str]:
    """`text`, or `refused` with the template's own reason, or `failed` with ours."""
    pieces: list[str] = []
    num_chars = 0
    try:
        for piece in template.generate(**values):
            pieces.append(piece)
            num_chars += len(piece)
            if num_chars > MAX_CHARS:
                return {"failed": f"its text is longer than {MAX_CHARS} characters"}
    except Refusal as refusal:
        return {"refused": str(refusal)[:MAX_REASON_CHARS]}
    except MemoryError:
        return {"failed": "it needs too much memory"}
    except Exception:  # a template can raise anything Python's operators raise
        return {"failed": ""}
    return {"text": "".join(pieces)}


if __name__ == "__main__":
    main()
