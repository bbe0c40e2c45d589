"""The child that tries a structure of others: `python -m vlm_dlm.grammar.child`.

First it is told the tokens, then one structure after another; it ends when its input does.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from vlm_dlm.confinement import give_up_rights, limit_cpu, prefer_for_killing
from vlm_dlm.errors import StructureError
from vlm_dlm.grammar.compiler import GrammarCompiler
from vlm_dlm.limited_process import read, write
from vlm_dlm.structure import Structure, StructureKind


class Table:
    """A tokenizer, as far as grammars ask it. Texts are cut into bytes: nothing depends on how."""

    def __init__(self, message: dict[str, Any]) -> None:
        self._tokens = [base64.b64decode(token) for token in message["tokens"]]
        self.reserved_ids = frozenset(message["reserved"])
        self.size = len(self._tokens)

    def token_bytes(self, token_id: int, skip_special: bool = True) -> bytes:
        return self._tokens[token_id]

    def encode_text(self, text: str) -> list[int]:
        return []


def main() -> None:
    """Arguments: address space in bytes, processor seconds for one structure."""
    memory_bytes, cpu_s = (int(text) for text in sys.argv[1:3])
    message = read()
    table = Table(message)
    # whatever is imported late, nothing can be opened afterwards
    compiler = GrammarCompiler(table, table.size, frozenset(message["eos"]), max_cached=0)
    compiler.compile(Structure(StructureKind.GRAMMAR, 'start: "a"'))
    prefer_for_killing()
    give_up_rights(memory_bytes)
    write({})
    while message := read():
        limit_cpu(cpu_s)
        write(_tried(compiler, message))


def _tried(compiler: GrammarCompiler, message: dict[str, Any]) -> dict[str, str]:
    try:
        compiler.compile(Structure(StructureKind(message["kind"]), message["source"]))
    except StructureError as error:
        return {"refused": str(error)}
    except (MemoryError, RecursionError):
        return {"refused": "it needs too much memory"}
    return {}


if __name__ == "__main__":
    main()
