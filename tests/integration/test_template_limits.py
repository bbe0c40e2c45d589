"""Templates that would take all time or memory fail their own request, and quickly."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic

import pytest

from vlm_dlm.errors import CheckpointError, PromptError, UnavailableError
from vlm_dlm.processor import template_process
from vlm_dlm.processor.chat_template import ChatTemplate

MESSAGES = [{"role": "user", "content": "hi"}]
GREEDY = [
    '{{ "a" * 10**9 }}',
    '{{ "%1000000000d" % 1 }}',
    '{{ "".ljust(10**9) }}',
    '{{ "x" | center(10**9) }}',
    '{{ "{:>1000000000}".format(1) }}',
    '{{ ("a" * 1000).replace("a", "b" * 10**6) | length }}',
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ 10 ** (10 ** 8) }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}"
    "{% endfor %}{{ ns.x }}",
    "{{ [0] * 10**9 }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ lipsum(n=10**8) }}",
    "{{ messages | tojson(indent=10**9) }}",
]


@pytest.mark.parametrize("source", GREEDY)
def test_a_greedy_template_fails_alone(source: str) -> None:
    began_s = monotonic()
    with pytest.raises(CheckpointError, match="chat template"):
        ChatTemplate(source).render(MESSAGES, enable_thinking=False)
    assert monotonic() - began_s < 30


def test_after_a_greedy_request_the_next_is_rendered() -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    much = "{% if messages[0].content == 'much' %}" + loop + "{% endif %}"
    source = much + "{{ messages[0].content }}"
    template = ChatTemplate(source)
    much = [{"role": "user", "content": "much"}]
    with pytest.raises(CheckpointError, match="2 processor seconds or 512 MiB"):
        template.render(much, enable_thinking=False)
    assert template.render(MESSAGES, enable_thinking=False) == "hi"


def test_the_process_of_a_template_goes_with_it() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}é")
    assert template._process is not None
    child = template._process._child
    assert child is not None
    pid = child.end.peek()[2][0].pid  # type: ignore[index]
    assert template.render([{"role": "user", "content": "ü\ud83c"}], False).startswith("<s>ü")
    del template, child
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_refusal_crosses_the_process() -> None:
    with pytest.raises(PromptError, match="refuses this conversation: only questions"):
        ChatTemplate("{{ raise_exception('only questions') }}").render(MESSAGES, False)


def test_a_template_on_a_starved_machine_is_the_servers_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    process = template._process
    assert process is not None
    assert process._child is not None
    monkeypatch.setattr(template_process, "WALL_S", 0.3)
    os.kill(process._child.end.peek()[2][0].pid, signal.SIGSTOP)  # type: ignore[index]
    with ThreadPoolExecutor(2) as threads:  # the second waits for the first
        waiting = [threads.submit(template.render, MESSAGES, False) for _ in range(2)]
        for render in waiting:
            with suppress(UnavailableError):
                assert render.result() == "hi"
        assert isinstance(waiting[0].exception(), UnavailableError)
    monkeypatch.undo()
    assert template.render(MESSAGES, False) == "hi"


def test_without_a_process_left_it_is_the_servers_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    process = template._process
    assert process is not None
    assert process._child is not None
    process._child.end()
    with pytest.raises(CheckpointError):
        template.render(MESSAGES, False)

    def refuse(*given: object, **options: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    num_open = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(UnavailableError, match="too busy to render"):
            template.render(MESSAGES, False)
    assert len(os.listdir("/proc/self/fd")) <= num_open
    monkeypatch.undo()
    assert template.render(MESSAGES, False) == "hi"
