"""Mixed traffic for a long time in a container's memory: `python -m benchmarks.serving.soak`.

What is measured, and why this way: a real server with its page, inside a control group with the
compose file's limit, so that the kernel ends processes as it would there. Clients ask in all modes
with small and large pictures, leave in the middle, send broken things, run the page's functions and
upload to it. Those of a kind come at the same moments, so that they meet, and then wait: not quite
two requests a second in all, of which half an hour fits into the log at its default level. Memory
is what the group holds without files that the kernel would let go of. It is flat if the straight
line through the second half of the samples (least squares) rises by less than 5 % of their mean
from its start to its end; judged from 10 minutes on, as shorter runs still warm up.
A line of progress every 15 seconds, then one JSON line. Exit code 1 if a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import fmean, linear_regression
from uuid import uuid4

import httpx
from PIL import Image

from tests.e2e.memory_group import MemoryGroup, NoGroups
from tests.e2e.server import Server
from tests.e2e.workload import MODES, chat, data_uri, pictures
from tests.integration.app.page_tab import Tab, error_of, wait_for_page

MIB = 2**20
LIMIT_MIB = 2048
REPORT_S, SAMPLE_S = 15.0, 1.0
FREE_S = 10.0  # for what tabs have uploaded to be removed once they are gone
LOCKS = (".lock",)  # of folders in use
MAX_LOG_BYTES = 10**6
MAX_LOG_BYTES_PER_REQUEST = 400  # in shorter runs; one or two lines
MAX_RISE = 0.05
MIN_JUDGED_MINUTES = 10.0
CHAT = "/v1/chat/completions"
# What each kind may get; anything else is a fault. Large pictures may find all places taken.
FINE = {
    "ask": {200},
    "large": {200, 429, 503},
    "nonsense": {400, 404, 405, 413, 415, 422},
    "compare": {200},
    "page": {200, 204},
}
QUESTION = ("[]", None, "Describe.", "ar", 16, 0, 0)


@dataclass(slots=True)
class Soak:
    """One run. samples: seconds since the start and MiB in the group."""

    server: Server
    group: MemoryGroup
    is_over: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, float]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        """All clients, until the time is over."""
        # how many, and the seconds from one of their moments to the next
        clients: list[tuple[Callable[[httpx.Client, Random], None], int, float]] = [
            (self.ask, 6, 12.0),
            (self.leave, 2, 10.0),
            (self.ask_large, 4, 20.0),
            (self.send_nonsense, 1, 15.0),
            (self.compare, 1, 20.0),
            (self.visit, 2, 40.0),
        ]
        threads = [
            threading.Thread(target=self._loop, args=(act, number, period_s), daemon=True)
            for act, num, period_s in clients
            for number in range(num)
        ]
        for thread in threads:
            thread.start()
        self._watch(seconds)
        self.is_over.set()
        for thread in threads:
            thread.join(180)
        self.faults["clients that hang"] += sum(thread.is_alive() for thread in threads)

    def ask(self, client: httpx.Client, random: Random) -> None:
        image = random.choice(pictures(64))
        body = chat((image,), mode=random.choice(MODES), is_streamed=False, max_tokens=48)
        self._note("ask", client.post(CHAT, json=body))

    def leave(self, client: httpx.Client, random: Random) -> None:
        body = chat((random.choice(pictures(64)),), mode=random.choice(MODES), max_tokens=160)
        with client.stream("POST", CHAT, json=body) as reply:
            for _, _ in zip(range(random.randrange(8)), reply.iter_lines(), strict=False):
                pass
        self.counts["left"] += 1

    def ask_large(self, client: httpx.Client, random: Random) -> None:
        body = chat((random.choice(LARGE),), is_streamed=False, max_tokens=8)
        self._note("large", client.post(CHAT, json=body))

    def send_nonsense(self, client: httpx.Client, random: Random) -> None:
        """Cut, damaged and mislabelled, and bodies that are none."""
        image = random.choice(LARGE)
        # Of a progressive JPEG half may be enough to see all of it, as small as it is wanted.
        cut = image[: random.randrange(100, len(image) // 3)]
        self._note("nonsense", client.post(CHAT, json=chat((cut,), is_streamed=False)))
        self._note("nonsense", client.post(CHAT, content=random.randbytes(random.randrange(10**6))))
        self._note("nonsense", client.get("/" + uuid4().hex))

    def compare(self, client: httpx.Client, random: Random) -> None:
        body = {"prompt": "Describe.", "images": [random.choice(pictures(64))]}
        self._note("compare", client.post("/v1/compare", json=body))

    def visit(self, client: httpx.Client, random: Random) -> None:
        """A tab that asks, uploads pictures and shows them, frees them as the page does where it is
        left, and is closed."""
        tab = Tab(self.server, self._client(random.randrange(100, 200)))
        with tab.opened():
            self._note("page", tab.http.get("/"))
            self.counts["asked on the page"] += error_of(tab.press("ask", *QUESTION)) is None
            paths: list[str] = []
            for _ in range(2):
                files = {"files": ("x.jpg", random.choice(LARGE_FILES), "image/jpeg")}
                reply = tab.http.post(f"/gradio_api/upload?upload_id={uuid4().hex}", files=files)
                self._note("page", reply)
                paths += reply.json()
            self._note("page", tab.http.get(f"/gradio_api/file={paths[0]}"))
            self._note("page", tab.http.post("/page/free", json={"paths": paths}))

    def _note(self, what: str, reply: httpx.Response) -> None:
        self.counts[f"{what} {reply.status_code}"] += 1
        if reply.status_code not in FINE[what]:
            self.faults[f"{what} got {reply.status_code}: {reply.text[:120]}"] += 1

    def _loop(
        self, act: Callable[[httpx.Client, Random], None], number: int, period_s: float
    ) -> None:
        random = Random(f"{act.__name__}/{number}")
        with self._client(number) as client:
            while not self.is_over.is_set():
                try:
                    act(client, random)
                except (httpx.HTTPError, OSError, AssertionError, KeyError, ValueError) as error:
                    if self.server.exit_code is not None:
                        return
                    self.faults[f"{act.__name__}: {type(error).__name__}: {error}"[:160]] += 1
                self.is_over.wait(period_s - time.monotonic() % period_s)

    def _client(self, number: int) -> httpx.Client:
        """Each at an address of its own, as visitors are."""
        return httpx.Client(
            base_url=self.server.base_url,
            timeout=120,
            trust_env=False,
            follow_redirects=True,
            transport=httpx.HTTPTransport(local_address=f"127.0.1.{number + 1}"),
        )

    def _watch(self, seconds: float) -> None:
        began_s, told_s = time.monotonic(), 0.0
        while (now_s := time.monotonic() - began_s) < seconds and self.server.exit_code is None:
            self.samples.append((now_s, self.group.used_bytes / MIB))
            if now_s - told_s >= REPORT_S:
                told_s = now_s
                print(
                    f"{now_s:6.0f} s  {self.samples[-1][1]:6.0f} MiB  "
                    f"{self.group.num_kills} kills  {self.counts.total()} requests  "
                    f"{self.faults.total()} faults",
                    flush=True,
                )
            time.sleep(SAMPLE_S)


def rise(samples: list[tuple[float, float]]) -> float:
    """Of the straight line through the second half, from its start to its end, as a share of its
    mean."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return 0.0
    seconds, mib = zip(*half, strict=True)
    slope, _ = linear_regression(seconds, mib)
    return slope * (seconds[-1] - seconds[0]) / fmean(mib)


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        try:
            group = MemoryGroup(args.limit_mib * MIB)
        except NoGroups as error:
            raise SystemExit(str(error)) from None
        env = {"TMPDIR": folder, "GRADIO_TEMP_DIR": f"{folder}/gradio"}
        with group, Server(env=env, page=True, spare_engine=True, enter=group.enter) as server:
            wait_for_page(server)
            engines = server.engines()
            soak = Soak(server, group)
            soak.run(args.minutes * 60)
            report = _judge(soak, engines == server.engines(), Path(folder), args.minutes)
    print(json.dumps(report))
    if report["faults"]:
        raise SystemExit(1)


def _judge(soak: Soak, is_same_engine: bool, folder: Path, minutes: float) -> dict[str, object]:
    """What came of it; `faults` is empty where every claim holds."""
    faults = [f"{count} x {fault}" for fault, count in soak.faults.items() if count]
    health: dict[str, object] = {}
    with suppress(OSError):
        health = json.loads(soak.server.get("/health", timeout_s=30))
    left = _left_files(folder)
    grown = rise(soak.samples)
    max_log = min(MAX_LOG_BYTES, MAX_LOG_BYTES_PER_REQUEST * soak.counts.total() + 20_000)
    log_bytes = len(soak.server.log.encode())
    claims = {
        "the kernel ended a process": soak.group.num_kills == 0,
        "the server ended": soak.server.exit_code is None,
        "the engine was started again": is_same_engine and health.get("num_restarts") == 0,
        f"memory rose by {grown:.1%} in the second half": grown <= MAX_RISE
        or minutes < MIN_JUDGED_MINUTES,
        f"{len(left)} files are left: {left[:3]}": not left,
        f"the log has {log_bytes} bytes, more than {max_log}": log_bytes <= max_log,
        "the log holds a traceback": "Traceback" not in soak.server.log,
    }
    faults += [claim for claim, holds in claims.items() if not holds]
    return {
        "benchmark": "serving.soak",
        "minutes": minutes,
        "limit_mib": soak.group.limit_bytes // MIB,
        "peak_mib": round(max((mib for _, mib in soak.samples), default=0.0), 1),
        "rise_in_second_half": round(grown, 4),
        "kills": soak.group.num_kills,
        "log_bytes": log_bytes,
        "files_left": len(left),
        "requests": dict(sorted(soak.counts.items())),
        "faults": faults,
    }


def _left_files(folder: Path) -> list[str]:
    """What tabs have left a while after they were closed."""
    until_s = time.monotonic() + FREE_S
    while True:
        found = [path for path in folder.rglob("*") if path.is_file() and path.name not in LOCKS]
        left = [str(path.relative_to(folder)) for path in found]
        if not left or time.monotonic() > until_s:
            return left
        time.sleep(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--limit-mib", type=int, default=LIMIT_MIB, help="as in the compose file")
    return parser.parse_args()


def _large(kind: str, size: tuple[int, int], **options: object) -> bytes:
    stream = BytesIO()
    picture = Image.effect_noise((size[0] // 8, size[1] // 8), 60).resize(size)
    picture.convert("RGB").save(stream, kind, **options)
    return stream.getvalue()


LARGE_FILES = (
    _large("JPEG", (8000, 5000), quality=60),
    _large("JPEG", (8000, 5000), quality=40, progressive=True),
    _large("JPEG", (4000, 3000)),
    _large("PNG", (3000, 2000), compress_level=1),
    _large("WEBP", (3000, 2000), quality=50, method=0),
)
LARGE = tuple(map(data_uri, LARGE_FILES))

if __name__ == "__main__":
    main()
