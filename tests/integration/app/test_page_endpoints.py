"""Programs call every named endpoint, on a real model, and get what the HTTP interface gives."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from tests.e2e.server import ROOT, Server
from tests.integration.app.page_tab import Tab, error_of, wait_for_page

PROMPT = "Describe the image."
ALL_MODES = ["ar", "diffusion", "quadratic_spec"]
NAMES = {"/modes", "/generate", "/compare", "/chat", "/sweep", "/report"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The embedded model with its page."""
    with Server(page=True) as found:
        wait_for_page(found)
        yield found


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    client = Client(server.base_url, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def image() -> str:
    data = (ROOT / "assets" / "examples" / "shapes.png").read_bytes()
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_these_endpoints_are_named_and_described_and_no_others(client: Client) -> None:
    found: Any = client.view_api(return_format="dict")
    assert set(found["named_endpoints"]) == NAMES
    assert not found["unnamed_endpoints"]
    for name, endpoint in found["named_endpoints"].items():
        assert endpoint["description"], name
        assert all(p["parameter_name"] for p in endpoint["parameters"]), name


def test_modes(client: Client) -> None:
    modes = client.predict(api_name="/modes")
    assert [mode["name"] for mode in modes][:2] == ["ar", "diffusion"]
    assert "threshold" in modes[1]["options"]


def test_generate(client: Client, image: str) -> None:
    reply = client.predict(PROMPT, image, "ar", {"max_tokens": 8}, api_name="/generate")
    assert (reply["mode"], reply["finish_reason"]) == ("ar", "length")
    assert reply["usage"]["completion_tokens"] == 8
    assert reply["metrics"]["tokens_per_second"] > 0


def test_a_file_is_as_good_as_a_data_uri(client: Client, image: str) -> None:
    file = handle_file(ROOT / "assets" / "examples" / "shapes.png")
    options = {"max_tokens": 8}
    replies = [
        client.predict(PROMPT, one, "ar", options, api_name="/generate") for one in (file, image)
    ]
    assert replies[0]["text"] == replies[1]["text"]
    assert replies[0]["usage"] == replies[1]["usage"]


def test_compare(client: Client, image: str) -> None:
    reply = client.predict(PROMPT, image, ["ar", "linear_spec"], api_name="/compare")
    assert [result["mode"] for result in reply["results"]] == ["ar", "linear_spec"]
    assert reply["results"][1]["agreement"]["is_identical"]
    assert client.predict(PROMPT, image, api_name="/compare")["results"][3]["text"]


def test_chat(client: Client, image: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": PROMPT}]
    first = client.predict([{"role": "user", "content": parts}], "ar", api_name="/chat")
    answer = first["choices"][0]["message"]["content"]
    assert answer == client.predict(PROMPT, image, "ar", api_name="/generate")["text"]
    turns = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "How many objects are there?"},
    ]
    second = client.predict(turns, options={"max_tokens": 16}, api_name="/chat")
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]


def test_sweep(client: Client, image: str) -> None:
    found = client.predict(PROMPT, image, "diffusion", [0.5, 1.0], [8, 16], 32, api_name="/sweep")
    points = found["points"]
    assert [(p["threshold"], p["block_length"]) for p in points] == [
        (0.5, 8),
        (0.5, 16),
        (1.0, 8),
        (1.0, 16),
    ]
    assert found["reference"]["tokens_per_second"] > 0
    good = [p for p in points if p["agreement"] >= found["least_agreement"]]
    assert found["best"] == max(good, key=lambda point: point["tokens_per_second"])


def test_a_sweep_leaves_out_what_the_mode_lacks(client: Client, image: str) -> None:
    found = client.predict(
        PROMPT, image, "quadratic_spec", [0.5, 0.9], [4, 8], 16, api_name="/sweep"
    )
    assert [(p["threshold"], p["block_length"]) for p in found["points"]] == [(None, 4), (None, 8)]


def test_report(client: Client, image: str) -> None:
    compared = client.predict(PROMPT, image, ["ar"], {"max_tokens": 4}, api_name="/compare")
    record = record_of(compared)
    text = client.predict(record, api_name="/report")
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert PROMPT in text


def record_of(compared: dict[str, Any]) -> dict[str, Any]:
    """A comparison as the page records it, without its tokens."""
    answers = {
        result["mode"]: {"title": result["mode"], "result": result, "tokens": []}
        for result in compared["results"]
    }
    return {
        "format": "vlm-dlm.comparison/1",
        "created": "2026-01-01T00:00:00Z",
        "model": compared["model"],
        "prompt": PROMPT,
        "modes": list(answers),
        "options": {"max_tokens": 4},
        "parallel": False,
        "summary": compared["summary"],
        "answers": answers,
        "runs": [{}],
        "image": None,
    }


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            {"prompt": "x", "mode": "warp", "api_name": "/generate"},
            "unknown mode 'warp'; the modes",
        ),
        ({"prompt": "x", "image": "zzz", "api_name": "/generate"}, "must be a data URI"),
        (
            {"prompt": "x", "options": {"top": 1}, "api_name": "/generate"},
            "options.top is not known",
        ),
        ({"prompt": "x", "modes": ["ar", "ar"], "api_name": "/compare"}, "listed twice"),
        ({"messages": [], "api_name": "/chat"}, "messages must not be empty"),
        ({"messages": [{"role": "king", "content": "x"}], "api_name": "/chat"}, "role must be"),
        ({"prompt": "x", "mode": "ar", "api_name": "/sweep"}, "mode ar has nothing to sweep"),
        ({"prompt": "x", "thresholds": [7.0], "api_name": "/sweep"}, "threshold"),
        ({"record": {}, "api_name": "/report"}, "is required"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    client: Client, server: Server, call: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        client.predict(**call)
    message = str(caught.value).strip("'\"")
    assert sentence.lower() in message.lower()
    assert message.endswith(".")
    assert message[0] == message[0].upper()
    assert "Traceback" not in server.log


def test_private_functions_are_no_endpoints(client: Client, server: Server) -> None:
    with pytest.raises(ValueError, match="Cannot find a function"):
        client.predict(api_name="/run_sweep")
    info = json.loads(server.get("/gradio_api/info"))
    assert set(info["named_endpoints"]) == NAMES


def test_the_chat_view_answers_again_in_another_mode(server: Server, image: str) -> None:
    with Tab(server).opened() as tab:
        images = json.dumps([image])
        first = tab.press("ask", images, None, PROMPT, "ar", 64, 0, 0)
        assert error_of(first) is None
        assert "[image 1] Describe the image." in str(first)
        assert "Autoregressive ·" in str(first)
        again = tab.press("again", images, None, "kept", "diffusion", 64, 0, 0)
        assert error_of(again) is None
        assert "Block diffusion ·" in str(again)
        assert "kept" not in str(again)  # nothing is sent to the box, so what is typed stays
        second = tab.press("ask", images, None, "How many objects are there?", "ar", 64, 0, 0)
        assert "'How many objects are there?'" in str(second)  # its image was shown before


def test_views_say_what_is_wrong_and_keep_the_question(server: Server) -> None:
    with Tab(server).opened() as tab:
        assert (
            error_of(tab.press("ask", "[]", None, " ", "ar", 64, 0, 0)) == "Write a question first."
        )
        broken = json.dumps(["data:image/png;base64,AAAA"])
        found = tab.press("ask", broken, None, "What <b>is</b> it?", "ar", 64, 0, 0)
        assert "image" in str(error_of(found)).lower()
        assert "What <b>is</b> it?" in str(found)  # back in its box
        assert (
            error_of(tab.press("again", "[]", None, "", "ar", 64, 0, 0)) == "Ask something first."
        )
        empty = tab.press("run_sweep", "", "", 64, "diffusion", ["0.9"], ["8"])
        assert error_of(empty) == "Write a question in the Compare view first."
        pair = tab.press("start_round", "", "Describe.", 64, ["ar"], 0, 0)
        assert "at least two modes" in str(error_of(pair))
    assert "Traceback" not in server.log


def test_the_box_of_the_chat_is_emptied_once(server: Server) -> None:
    """What is typed while an answer is written stays."""
    with Tab(server).opened() as tab:
        messages = tab.press("ask", "[]", None, PROMPT, "ar", 64, 0, 0)
    assert error_of(messages) is None
    sent = [m["output"]["data"][2] for m in messages if "output" in m]
    assert sent[0] == ""
    assert sent[-1] == {"__type__": "update"}  # as it is


PER_FORWARD = re.compile(r"([0-9.]+) tokens per forward")


def test_chat_and_blind_test_take_the_settings_of_the_compare_view(
    server: Server, image: str
) -> None:
    with Tab(server).opened() as tab:
        shares: list[float] = []
        for name, threshold in (("ask", 1.0), ("again", 0.05)):
            given = json.dumps([image]), None, PROMPT, "diffusion", 64, threshold, 32
            done = tab.press(name, *given)
            shares.append(float(PER_FORWARD.findall(str(done))[-1]))
        assert shares[0] < shares[1]
        # Which has neither, and which cannot do such blocks.
        assert error_of(tab.press("ask", "[]", None, PROMPT, "ar", 8, 0.5, 32)) is None
        refused = tab.press("ask", "[]", None, PROMPT, "quadratic_spec", 8, 0, 1)
        assert "block lengths 2 to 32" in str(error_of(refused))
        for _ in range(3):
            pair = tab.press("start_round", image, PROMPT, 8, ALL_MODES, 0.5, 1)
            assert "block lengths 2 to 32" in str(error_of(pair))
        pair = tab.press("start_round", image, PROMPT, 8, ALL_MODES[:2], 0.5, 32)
        assert error_of(pair) is None


def test_a_blind_pair_has_no_names_until_the_vote(server: Server, image: str) -> None:
    with Tab(server).opened() as tab:
        pair = tab.press("start_round", image, PROMPT, 64, ["ar", "quadratic_spec"], 0, 0)
        assert error_of(pair) is None
        assert "Which is better?" in str(pair)
        assert not {"ar", "quadratic_spec", "Autoregressive"} & set(str(pair).split("'"))
        vote = tab.press("vote", None, [])
        assert error_of(vote) is None
        assert "Autoregressive" in str(vote)
        again = tab.press("vote", None, [])
        assert error_of(again) == "Start a new pair first."


def test_sources_of_images_are_text_alone(server: Server, tmp_path: Path) -> None:
    """A path of the server's own disk is no image."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    with Tab(server).opened() as tab:
        found = tab.press("start_round", str(secret), PROMPT, 64, ["ar", "diffusion"], 0, 0)
        assert "must be a data URI" in str(error_of(found))
