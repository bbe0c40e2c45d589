"""Runs a built image as docker-compose.yml says, without a container engine, and measures it.

    python -m tests.deploy.run_image localhost/vlm-dlm:0.1.0-cpu

It gets what an engine would give it: the image's user, variables and command, a read-only root, the
service's tmpfs mounts, no capabilities, no new privileges, and namespaces of its own, that of the
network with a loopback alone. Not there: the service's limits of memory and processes, the
published port, and docker's init. Needs root, buildah, docker-compose, iproute2 and util-linux.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from tests.deploy.test_compose import read, seconds
from tests.e2e.processes import children

ROOT = Path(__file__).resolve().parents[2]
READY_S = 120.0
REVISION = "0" * 39 + "1"
NAMESPACES = ("--pid", "--ipc", "--uts", "--mount", "--net")
# Runs as root in the new namespaces; what it replaces itself with in the end is process 1.
MOUNTS = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -t proc -o nosuid,noexec,nodev proc "$ROOT/proc"
mount -t tmpfs -o nosuid,mode=755,size=64k tmpfs "$ROOT/dev"
for name in null zero full random urandom; do
    touch "$ROOT/dev/$name"
    mount --bind "/dev/$name" "$ROOT/dev/$name"
done
mkdir "$ROOT/dev/shm"
mount -t tmpfs -o nosuid,nodev,noexec,mode=1777,size=64m tmpfs "$ROOT/dev/shm"
ip link set lo up
"""
# What is asked of the server from inside, with the packages of the image alone.
QUESTIONS = """
import base64, json, os, pathlib, urllib.error, urllib.request

import vlm_dlm_app

def ask(path, body=None, host="localhost"):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Host": host}
    request = urllib.request.Request("http://127.0.0.1:8000" + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, b""

def writable(folder):
    try:
        path = pathlib.Path(folder, "probe")
        path.write_text("x")
        path.unlink()
    except OSError:
        return False
    return True

picture = pathlib.Path(vlm_dlm_app.__file__).parent / "_examples" / "shapes.png"
image = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
whole = json.loads(ask("/v1/compare", {"prompt": "Describe the image.", "images": [image]})[1])
status = dict(line.split(":", 1) for line in open("/proc/1/status") if ":" in line)
print(json.dumps({
    "texts": {result["mode"]: result["text"] for result in whole["results"]},
    "page": ask("/")[0],
    "metrics_of_prometheus": ask("/metrics", host="server:8000")[0],
    "foreign_host": ask("/metrics", host="foreign.example")[0],
    "user": os.stat("/proc/1").st_uid,
    "capabilities": int(status["CapBnd"], 16) | int(status["CapEff"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "writable": [f for f in ("/", "/opt/venv", "/etc", "/tmp", "/cache") if writable(f)],
    "temporary_bytes": sum(p.stat().st_size for p in pathlib.Path("/tmp").rglob("*")),
}))
"""


def measure(image: str) -> dict[str, Any]:
    """The figures of the default service, and of a start from a Hub cache without a network."""
    service = read(())["services"]["server"]
    config = inspect(image)["Docker"]["config"]
    with mounted(image) as root, tempfile.TemporaryDirectory() as folder:
        figures = run(root, config, service, None)
        cached = {"VLM_DLM_MODEL": fill_cache(Path(folder))}
        service["environment"] |= cached
        later = run(root, config, service, Path(folder))
    figures["image_bytes"] = image_bytes(image)
    figures["from_hub_cache"] = {"healthy_s": later["healthy_s"], "texts": later["inside"]["texts"]}
    return figures


class Container:
    """The image, started; `inside` runs a command beside it under the same restrictions."""

    def __init__(
        self,
        root: Path,
        config: dict[str, Any],
        service: dict[str, Any],
        cache: Path | None,
        log: IO[bytes],
    ) -> None:
        self._confine = confine(config, service)
        command = [*self._confine, *config["Entrypoint"], *config["Cmd"]]
        script = mounts(service, cache) + shlex.join(["exec", "chroot", str(root), *command])
        self.process = subprocess.Popen(
            ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", "-c", script],
            env={"PATH": os.environ["PATH"], "ROOT": str(root)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def inside(self, *command: str) -> subprocess.CompletedProcess[str]:
        first = self._first()
        enter = ["nsenter", f"--target={first}", *NAMESPACES, "--root", "--wd"]
        whole = [*enter, *self._confine, *command]
        return subprocess.run(whole, capture_output=True, text=True, check=False)

    def end(self, patience_s: float) -> int:
        """What an engine does: SIGTERM to process 1. Its exit code."""
        os.kill(self._first(), signal.SIGTERM)
        return self.process.wait(patience_s)

    def kill(self) -> None:
        self.process.kill()  # and with it what it started
        self.process.wait()

    def _first(self) -> int:
        """Process 1 of the container, as it is called outside."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        while not (found := Path(path).read_text(encoding="ascii").split()):
            time.sleep(0.01)
        return int(found[0])


def run(
    root: Path, config: dict[str, Any], service: dict[str, Any], cache: Path | None
) -> dict[str, Any]:
    """Start, wait until healthy, ask, stop."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        container = Container(root, config, service, cache, log)
        memory = Memory(container.process.pid)
        try:
            while container.inside(*service["healthcheck"]["test"][1:]).returncode:
                if container.process.poll() is not None or time.monotonic() - began > READY_S:
                    raise RuntimeError("it never became healthy")
                time.sleep(0.5)
            healthy_s = time.monotonic() - began
            asked = container.inside("python", "-c", QUESTIONS)
            if asked.returncode:
                raise RuntimeError(asked.stderr)
            peak_bytes = memory.stop()
            began = time.monotonic()
            code = container.end(seconds(service["stop_grace_period"]))
            return {
                "healthy_s": round(healthy_s, 1),
                "stop_s": round(time.monotonic() - began, 1),
                "exit_code": code,
                "peak_memory_bytes": peak_bytes,
                "inside": json.loads(asked.stdout),
            }
        except RuntimeError as error:
            log.seek(0)
            raise RuntimeError(f"{error}; its log:\n{log.read().decode()}") from None
        finally:
            memory.stop()
            container.kill()


def mounts(service: dict[str, Any], cache: Path | None) -> str:
    """The script that lays the file system out, up to the command."""
    lines = [MOUNTS]
    for text in service["tmpfs"]:
        target, _, options = text.partition(":")
        lines.append(f'mount -t tmpfs -o {options} tmpfs "$ROOT{target}"')
    if cache is not None:
        lines.append(f'mount --bind {shlex.quote(str(cache))} "$ROOT/cache"')
    if service["read_only"]:
        lines.append('mount -o remount,bind,ro "$ROOT"')
    return "\n".join([*lines, ""])


def confine(config: dict[str, Any], service: dict[str, Any]) -> list[str]:
    """The command in front of a command that gives it the image's user and variables and takes the
    rest away."""
    uid, gid = config["User"].split(":")
    rights = ["--reuid", uid, "--regid", gid, "--clear-groups"]
    if service["cap_drop"] == ["ALL"]:
        rights += ["--inh-caps=-all", "--bounding-set=-all"]
    if "no-new-privileges:true" in service["security_opt"]:
        rights += ["--no-new-privs"]
    variables = dict(part.split("=", 1) for part in config["Env"]) | service["environment"]
    given = [f"{name}={value}" for name, value in variables.items()]
    return ["/usr/bin/setpriv", *rights, "/usr/bin/env", "--ignore-environment", *given]


def fill_cache(cache: Path) -> str:
    """Put the embedded checkpoint there as a download would have; returns its Hub id."""
    hub = cache / "huggingface" / "hub"
    snapshot = hub / "models--vlm-dlm--embedded" / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for path in (ROOT / "assets" / "embedded").iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    for path in [cache, *cache.rglob("*")]:
        os.chown(path, 10001, 10001)
    return f"vlm-dlm/embedded@{REVISION}"


@contextmanager
def mounted(image: str) -> Generator[Path]:
    """The image's files."""
    container = output("buildah", "from", "--pull-never", image)
    try:
        yield Path(output("buildah", "mount", container))
    finally:
        subprocess.run(["buildah", "rm", container], capture_output=True, check=False)


def inspect(image: str) -> dict[str, Any]:
    return json.loads(output("buildah", "inspect", "--type", "image", image))


def image_bytes(image: str) -> int:
    """Of all its layers, unpacked."""
    (found,) = json.loads(output("buildah", "images", "--json", image))
    number, unit = found["size"].split()
    return int(float(number) * {"MB": 1e6, "GB": 1e9}[unit])


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Memory:
    """The most that all processes together held, shared pages counted once, looked at often."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._is_over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes so far."""
        self._is_over.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._is_over.wait(0.2):
            held = sum(_pss_bytes(process.pid) for process in children(self._pid))
            self._peak = max(self._peak, held)


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1])) + "\n")
