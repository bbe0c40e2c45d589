"""Fetching from a Hub that works, and from one that does not: real requests, a real cache."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants, file_download

from tests.fake_hub import FakeHub
from tests.integration.fetching.conftest import ACCEPT, COMMIT, Fetch
from vlm_dlm.checkpoint.download import PIECE_BYTES
from vlm_dlm.checkpoint.family import FULL_MODEL
from vlm_dlm.checkpoint.record import RECORD_FILE, file_sha256
from vlm_dlm.checkpoint.resolve import resolve_checkpoint
from vlm_dlm.cli.main import run
from vlm_dlm.preflight import open_checkpoint

WEIGHTS = "model.safetensors"
SIDE_FILES = ["LICENSE", "chat_template.jinja", "config.json", "preprocessor_config.json"]
WANTED = sorted([*SIDE_FILES, WEIGHTS, "tokenizer.json"])


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error; what was said before it is not counted."""
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = (line for line in err.splitlines() if line.startswith("Error: "))
    return line


def left_behind(cache: Path) -> list[str]:
    return [path.name for path in cache.rglob("*") if path.is_file()]


def test_all_files_but_code_arrive_and_load_offline(
    fetch: Fetch,
    hub: FakeHub,
    snapshot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fetch(FULL_MODEL, *ACCEPT, "--json") == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert "Downloading 100 % of " in err, "progress, also where there is no terminal"
    assert document["revision"] == COMMIT
    assert document["folder"] == str(snapshot)
    assert sorted(document["files"]) == WANTED
    assert sorted(set(hub.asked)) == WANTED, "no code, no pictures"
    assert document["files"][WEIGHTS]["sha256"] == file_sha256(hub.folder / WEIGHTS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_checkpoint(FULL_MODEL) == snapshot
    assert open_checkpoint(FULL_MODEL).config.num_hidden_layers == 2


def test_a_second_fetch_downloads_nothing_and_checks_everything(
    fetch: Fetch, hub: FakeHub, snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(*ACCEPT) == 0
    hub.asked.clear()
    assert fetch() == 0, "the licence has been accepted"
    assert hub.asked == ["config.json"]
    hub.asked.clear()
    (snapshot / WEIGHTS).resolve().write_bytes(bytes((snapshot / WEIGHTS).stat().st_size))
    (snapshot / "chat_template.jinja").unlink()
    assert fetch(*ACCEPT) == 0
    assert hub.asked == ["config.json", WEIGHTS], "the template's content is still in the cache"
    assert (snapshot / "chat_template.jinja").is_file()
    assert (snapshot / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_a_branch_is_fetched_at_its_commit_and_found_offline(
    fetch: Fetch, snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(f"{FULL_MODEL}@main", *ACCEPT) == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_checkpoint(f"{FULL_MODEL}@main") == snapshot


def test_a_plain_folder(
    fetch: Fetch, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "here" / "model"
    assert fetch("--to", str(target), *ACCEPT) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert sorted(left_behind(target)) == sorted([*WANTED, RECORD_FILE])
    assert not (tmp_path / "cache").exists()
    open_checkpoint(target)
    hub.asked.clear()
    assert fetch("--to", str(target), *ACCEPT) == 0
    assert hub.asked == ["config.json"]


def test_a_folder_of_other_things_is_left_alone(
    fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert fetch("--to", str(tmp_path), *ACCEPT) == 2
    assert "holds other things; choose a new or empty folder" in refusal(capsys)


def test_a_connection_cut_in_the_middle_goes_on_by_itself(
    fetch: Fetch, hub: FakeHub, snapshot: Path, no_waiting: None
) -> None:
    size = (hub.folder / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [size // 3, size // 3]
    assert fetch(*ACCEPT) == 0
    assert size <= hub.sent[WEIGHTS] < size + 2 * PIECE_BYTES, "hardly a byte came twice"
    assert (snapshot / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


def test_large_files_come_from_a_storage_that_never_sees_the_token(
    fetch: Fetch,
    hub: FakeHub,
    snapshot: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_waiting: None,
) -> None:
    """As the real Hub does it: a redirect to another host, where a broken download is resumed."""
    hub.has_storage, hub.token = True, "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    size = (hub.folder / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [size // 2]
    assert fetch(*ACCEPT) == 0
    assert size <= hub.sent[WEIGHTS] < size + PIECE_BYTES
    assert (snapshot / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()


@pytest.mark.parametrize("can_resume", [True, False])
def test_a_download_that_broke_off_is_resumed_by_the_next_fetch(
    can_resume: bool,
    fetch: Fetch,
    hub: FakeHub,
    snapshot: Path,
    no_waiting: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = (hub.folder / WEIGHTS).stat().st_size
    hub.cuts[WEIGHTS] = [size // 2, *[0] * 6]
    assert fetch(*ACCEPT) == 2
    line = refusal(capsys)
    assert f"the download of {WEIGHTS} broke off after" in line
    assert "run the same again, which goes on there" in line
    assert not snapshot.exists(), "nothing under its own name before all is there"
    hub.can_resume = can_resume
    assert fetch(*ACCEPT) == 0
    num_twice = 0 if can_resume else size // 2
    assert size + num_twice <= hub.sent[WEIGHTS] < size + num_twice + PIECE_BYTES
    assert (snapshot / WEIGHTS).read_bytes() == (hub.folder / WEIGHTS).read_bytes()
    assert not [name for name in left_behind(snapshot.parents[1]) if "incomplete" in name]


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"], ids=["large", "small"])
def test_a_wrong_checksum_leaves_nothing(
    name: str, fetch: Fetch, hub: FakeHub, snapshot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.corrupt = {name}
    assert fetch(*ACCEPT) == 2
    assert f"{name} does not have the checksum that the Hub announces" in refusal(capsys)
    assert not snapshot.exists()
    hub.corrupt = set()
    assert fetch(*ACCEPT) == 0


@pytest.mark.parametrize("command", ["fetch", "doctor"])
def test_a_config_that_arrives_damaged_is_not_blamed_on_the_repository(
    command: str, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.corrupt, hub.repo = {"config.json"}, "org/small"
    arguments = {"fetch": ["org/small", *ACCEPT], "doctor": ["--model", "org/small"]}
    assert run([command, *arguments[command]]) == 2
    line = refusal(capsys)
    assert line.startswith("Error: config.json of org/small arrived damaged: ")
    assert line.endswith("run the same again")
    assert not (tmp_path / "cache").exists()


REFUSALS = {
    "gated": ("config.json", (403, "GatedRepo"), "is gated; accept its licence on the Hub"),
    "no such repository": ("", (404, "RepoNotFound"), "no public Hub repository"),
    "private or misspelt": ("", (401, "RepoNotFound"), "check the spelling or HF_TOKEN"),
    "a bad token": ("", (401, ""), "does not let this token read"),
    "forbidden": ("config.json", (403, ""), "does not let this token read"),
    "out of order": ("", (503, ""), "the Hub answered 503"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_hub_refuses(
    case: str, fetch: Fetch, hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, answer, expected = REFUSALS[case]
    hub.refusals[name] = answer
    assert fetch(*ACCEPT) == 2
    assert expected in refusal(capsys)
    assert not (tmp_path / "cache").exists()


def test_no_such_revision(fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch(f"{FULL_MODEL}@v9", *ACCEPT) == 2
    assert "has no revision v9" in refusal(capsys)
    assert not (tmp_path / "cache").exists()


def test_the_token_is_sent(
    fetch: Fetch, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    assert fetch(*ACCEPT) == 2
    secret = tmp_path / "token"
    secret.write_text("hf_secret\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(secret))
    assert fetch(*ACCEPT) == 0


def test_an_unreachable_hub(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetch(*ACCEPT) == 2
    assert "the Hub at http://127.0.0.1:9 cannot be reached (ConnectError)" in refusal(capsys)


def test_offline_mode(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(*ACCEPT) == 2
    assert "unset HF_HUB_OFFLINE to fetch" in refusal(capsys)


def test_a_disk_that_is_too_small(
    fetch: Fetch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert fetch(*ACCEPT) == 2
    assert "which has 1.0 kB free; make room, or choose another disk" in refusal(capsys)
    assert not (tmp_path / "cache").exists()


def test_a_disk_that_fills_up(
    fetch: Fetch,
    snapshot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = file_download.http_get

    def full(url: str, out: Any, **options: Any) -> None:
        if not isinstance(out, io.BytesIO):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(url, out, **options)

    monkeypatch.setattr(file_download, "http_get", full)
    assert fetch(*ACCEPT) == 2
    assert "is full; make room and run the same again" in refusal(capsys)
    assert not snapshot.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--accept-license", "mit"], "'mit' is not the licence of nvidia/"),
        ([], "is to be accepted first; having read it, pass --accept-license nsclv1"),
    ],
    ids=["another licence", "nobody to ask"],
)
def test_without_the_right_licence_nothing_is_written(
    arguments: list[str],
    expected: str,
    fetch: Fetch,
    hub: FakeHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fetch(*arguments) == 2
    _, err = capsys.readouterr()
    assert expected in err
    assert (
        f"Licence: NVIDIA Source Code License (nsclv1), https://huggingface.co/{FULL_MODEL}\n"
        in err
    )
    assert "\n  It is not the licence of the text-only models" in err
    assert f"\nIts text: {hub.endpoint}/{FULL_MODEL}/blob/{COMMIT}/LICENSE\n" in err
    assert hub.asked == ["config.json"], "read, not kept"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("card", "shown", "accepted"),
    [
        ({"license": "apache-2.0"}, "apache-2.0, https://huggingface.co/org/small", "Apache-2.0"),
        (
            {"license": "other", "license_name": "terms", "license_link": "https://a.b/terms"},
            "terms, https://a.b/terms",
            "terms",
        ),
        ({}, "no licence is named (unknown)", "unknown"),
    ],
    ids=["plain", "named", "none"],
)
def test_the_licence_of_another_repository_is_what_its_card_says(
    card: dict[str, str],
    shown: str,
    accepted: str,
    fetch: Fetch,
    hub: FakeHub,
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.repo, hub.card = "org/small", card
    assert fetch("org/small", "--accept-license", "nsclv1") == 2
    err = capsys.readouterr().err
    assert f"Licence: {shown}" in err
    assert f"Its text: {hub.endpoint}/org/small/blob/{COMMIT}/LICENSE\n" in err
    (hub.folder / "LICENSE").unlink()
    assert fetch("org/small", "--accept-license", "nsclv1") == 2
    assert "Its text" not in capsys.readouterr().err
    assert fetch("org/small", "--accept-license", accepted) == 0


def test_a_card_that_says_otherwise_is_shown_beside_what_is_known(
    fetch: Fetch, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.card = {"license": "other", "license_name": "new-terms"}
    assert fetch("--accept-license", "mit") == 2
    err = capsys.readouterr().err
    assert err.count("Licence: ") == 2
    assert "which is nsclv1 or new-terms; nothing was downloaded" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
@pytest.mark.parametrize(("typed", "code"), [("yes", 2), ("NSCLv1", 0)])
def test_a_person_reads_the_licence_and_types_its_name(
    typed: str, code: int, hub: FakeHub, tmp_path: Path, snapshot: Path
) -> None:
    """A process of its own, led to the Hub by the usual variables."""
    import pty

    reader, terminal = pty.openpty()
    os.write(reader, f"{typed}\n".encode())
    cache = str(tmp_path / "cache")
    out = subprocess.run(
        [sys.executable, "-m", "vlm_dlm", "fetch"],
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": cache},
    )
    os.close(reader)
    os.close(terminal)
    assert out.returncode == code, out.stderr
    assert "You may look, you may not touch." in out.stderr
    assert "Type nsclv1 to accept" in out.stderr
    assert snapshot.exists() is (code == 0)
    assert hub.asked == ["config.json", "LICENSE"] or code == 0, "read, not kept"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"model_type": "llama"}', "model_type 'llama'; supported are"),
        ("{", "is not valid JSON"),
        ("[]", "does not hold a JSON object"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused_before_its_weights(
    text: str,
    expected: str,
    fetch: Fetch,
    hub: FakeHub,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (hub.folder / "config.json").write_text(text)
    assert fetch(*ACCEPT) == 2
    assert expected in refusal(capsys)
    assert not (tmp_path / "cache").exists()


def test_somebody_else_is_fetching(
    fetch: Fetch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vlm_dlm.checkpoint.places import CachePlace

    with CachePlace(FULL_MODEL, COMMIT, COMMIT).lock():
        assert fetch(*ACCEPT) == 2
    assert "somebody else is fetching" in refusal(capsys)


def test_what_is_no_hub_id(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "../x"]) == 2
    assert "is no Hub id; write org/name or org/name@revision" in refusal(capsys)
