"""The report of a comparison: whole, in one file, and nothing that a record holds can run in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.app.page_records import make_record
from vlm_dlm_app.http.errors import ApiError
from vlm_dlm_app.page.report import build_report
from vlm_dlm_app.page.report_charts import Line, bar_chart, step_chart, ticks

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]><svg onload=alert(1)>",
    "\"'><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "</style></title></textarea><iframe src=//example.org>",
    "\u2028\u2029\x00\u202e",
)


class Elements(HTMLParser):
    """Every element of a file with its attributes, and the text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._is_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts[-1] += data


def hostile_record(text: str) -> dict[str, Any]:
    """The text in every place that takes text."""
    record = make_record(model=text, prompt=text, created=text[:40])
    mode = text
    answer = record["answers"]["ar"]
    answer["title"] = text
    answer["result"] |= {"text": text, "mode": text, "finish_reason": text}
    answer["result"]["metrics"] |= {"device": text, "dtype": text, "mode": text}
    answer["result"]["error"] = {"message": text, "type": text, "param": text, "code": text}
    answer["tokens"][0][6] = text
    record["answers"][mode] = answer
    record["modes"] = [mode, "diffusion"]
    record["options"] = {text: text, "nested": {text: [text]}}
    return record


def shape(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and names of attributes, of a report whose texts do not matter."""
    return [(tag, tuple(sorted(attributes))) for tag, attributes in Elements(html).tags]


def test_a_report_holds_the_answers_the_figures_and_the_settings() -> None:
    html = build_report(make_record(), None)

    for shown in (
        "A red circle is above a blue square.",
        "Block diffusion",
        "float32",
        "identical",
    ):
        assert shown in html
    assert "block_length" in html
    assert "include_drafts</dt>" not in html
    assert "left out of this report" in html
    assert "holiday" not in html


def test_a_report_holds_the_picture_where_one_is_given() -> None:
    html = build_report(make_record(), PNG)

    images = [attributes for tag, attributes in Elements(html).tags if tag == "img"]
    assert [image["src"] for image in images] == [PNG]


def test_what_an_engine_does_not_say_is_a_dash() -> None:
    record = make_record()
    metrics = record["answers"]["ar"]["result"]["metrics"]
    metrics |= {"vision_time_ms": None, "prefill_time_ms": None}
    record["summary"] |= {"vision_ms": None, "prefill_ms": None}
    html = build_report(record, None)
    assert re.search(r">Prompt<.{0,80}?<td[^>]*>–</td>", html, re.DOTALL)
    assert "None" not in html
    assert "NaN" not in html


def test_several_runs_are_shown_as_median_and_spread() -> None:
    runs = [{"ar": {"tokens_per_second": speed}} for speed in (90.0, 130.0, 100.0)]

    html = build_report(make_record(runs=runs), None)

    assert "100 (90.0 to 130)" in html
    assert "median of 3 runs" in html


def cells(html: str, name: str) -> list[str]:
    """One row of the table of figures."""
    row = re.search(rf'<th scope="row">{name}(?:<small>.*?</small>)?</th>(.*?)</tr>', html)
    assert row is not None, name
    return re.findall(r"<td[^>]*>(.*?)</td>", row[1])


def test_figures_of_several_runs_are_medians_as_on_the_card() -> None:
    figures = {
        "Time to first token": ("time_to_first_token_ms", "30 ms"),
        "First whole sentence": ("time_to_first_sentence_ms", "30 ms"),
        "Forwards": ("num_forwards", "30"),
        "Tokens per forward": ("tokens_per_forward", "30.0"),
        "Wasted positions": ("num_wasted_positions", "30"),
        "Prompt": ("prefill_time_ms", "30 ms"),
        "Writing": ("decode_time_ms", "30 ms"),
    }
    names = [key for key, _ in figures.values()]
    runs = [{"ar": dict.fromkeys(names, value)} for value in (90.0, 20.0, 30.0)]

    html = build_report(make_record(runs=runs), None)

    for name, (_, shown) in figures.items():
        assert cells(html, name)[0] == shown
    assert "Figures are medians of 3 runs; answers, charts over time and the replay are of" in html
    assert "in the first run, once for all" in html


def test_an_answer_of_one_token_has_no_speed() -> None:
    record = _with("answers.ar.result.num_tokens", 1)

    html = build_report(record, None)

    assert cells(html, "Tokens per second") == ["too short to measure", "110"]
    chart = html[html.index('aria-label="Tokens per second by mode"') :].partition("</svg>")[0]
    assert "Block diffusion" in chart
    assert "Autoregressive" not in chart


def test_of_several_runs_those_without_a_speed_do_not_count() -> None:
    speeds = {"ar": (None, 120.0, None), "diffusion": (None, None, None)}
    runs = [{mode: {"tokens_per_second": own[i]} for mode, own in speeds.items()} for i in range(3)]

    html = build_report(make_record(runs=runs), None)

    assert cells(html, "Tokens per second") == ["120", "too short to measure"]


def test_a_wait_in_the_queue_is_told_apart() -> None:
    record = _with("answers.ar.result.metrics.queue_time_ms", 12.4)

    shown = cells(build_report(record, None), "Time to first token")

    assert shown == ["24 ms, of that 12 ms in the queue", "24 ms"]


@pytest.mark.parametrize(
    ("is_cached", "words"),
    [
        (False, "Image and prompt took 14 ms, once for all."),
        (True, "Image and prompt came from the cache."),
    ],
)
def test_what_image_and_prompt_took_is_only_said_where_they_were_computed(
    is_cached: bool, words: str
) -> None:
    html = build_report(_with("summary.is_prompt_cached", is_cached), None)

    assert words in html
    assert ("Image and prompt took" in html) == (not is_cached)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_record_becomes_an_element(text: str) -> None:
    plain, hostile = (build_report(hostile_record(each), PNG) for each in ("plain", text))

    assert shape(hostile) == shape(plain)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_no_text_at_all_becomes_an_element(text: str) -> None:
    # Behind a letter, or it could be the name of an option that a report leaves out.
    plain, other = (build_report(hostile_record(f"x{each}"), None) for each in ("plain", text))

    assert shape(other) == shape(plain)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_record_in_a_report_reads_back_as_it_was(text: str) -> None:
    data, code = Elements(build_report(hostile_record(text), PNG)).scripts

    record = json.loads(data)["record"]
    assert record["prompt"] == text
    assert record["answers"][text]["tokens"][0][6] == text
    assert text not in code or text == "javascript:alert(1)"


def test_only_the_one_script_may_run_and_nothing_may_be_loaded() -> None:
    html = build_report(make_record(), None)
    elements = Elements(html)

    policy = next(
        attributes["content"] or ""
        for tag, attributes in elements.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    addresses = {"src", "href", "action", "formaction", "poster", "data", "srcset"}
    assert not any(addresses & set(attributes) for _, attributes in elements.tags)
    assert not re.search(r"@import|url\(", html)


@pytest.mark.parametrize(
    "image",
    [
        "https://example.org/a.png",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/html;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png;base64,AAAA",
        "data:image/jpeg;base64,iVBORw0KGgo=",
        "data:image/png;base64,iVBORw0KGgo",
        "",
    ],
)
def test_what_is_no_picture_is_refused(image: str) -> None:
    with pytest.raises(ApiError):
        build_report(make_record(), image)


def _with(path: str, value: Any) -> dict[str, Any]:
    """A record with one value changed. path: keys, by dots."""
    record: Any = make_record()
    *way, last = path.split(".")
    part = record
    for key in way:
        part = part[int(key) if key.isdigit() else key]
    part[int(last) if last.isdigit() else last] = value
    return record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", "vlm-dlm.comparison/2"),
        ("modes", []),
        ("summary", None),
        ("prompt", "\ud800"),
        ("answers.ar.tokens.0.1", "<b>"),
        ("answers.ar.tokens.0.7", "soon"),
        ("answers.ar.tokens.0.7", float("nan")),
        ("answers.ar.tokens.0", [1, 2]),
        ("answers.ar.tokens", [[1, "ar", 0, 0, 1.0, None, "a", 1.0, 1]] * 9000),
        ("answers.ar.result", None),
        ("image", {"width": -1, "height": 1}),
    ],
)
def test_what_is_no_record_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        build_report(_with(path, value), None)


def test_a_mode_that_failed_is_shown_with_its_error() -> None:
    record = make_record()
    record["answers"]["ar"]["result"] |= {
        "metrics": None,
        "error": {"message": "out of memory", "type": "server_error", "param": None, "code": "x"},
    }
    record["answers"]["ar"]["tokens"] = []

    assert "Not finished: out of memory" in build_report(record, None)


def test_figures_that_are_no_numbers_do_not_break_the_replay() -> None:
    record = _with("answers.ar.result.metrics.tokens_per_second", float("nan"))

    data, _ = Elements(build_report(record, None)).scripts

    assert json.loads(data)["record"]["answers"]["ar"]["result"]["metrics"]["mode"] == "ar"


@given(top=st.floats(1e-6, 1e9))
def test_ticks_reach_the_top_in_few_round_steps(top: float) -> None:
    values = ticks(top)

    assert values[0] == 0
    assert values[-1] >= top * (1 - 1e-9)
    assert 2 <= len(values) <= 7


@pytest.mark.parametrize("top", [0.0, 5e-324, 1e-9])
def test_a_top_near_nothing_has_ticks_too(top: float) -> None:
    assert ticks(top)[-1] >= top


def test_a_record_may_say_one_of_both_times() -> None:
    summary = {**make_record()["summary"], "vision_ms": None, "prefill_ms": 6.0}
    assert "took 6 ms" in build_report(make_record(summary=summary), None)


def test_charts_of_nothing_are_empty() -> None:
    assert step_chart([Line("a", [])], "x", "y") == ""
    assert bar_chart([], "x") == ""
    assert bar_chart([("a", 0.0)], "x") == ""
