"""Figures that others keep and that are read at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vlm_dlm_app.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services


class LiveMetrics(Collector):
    """The engine's restarts, lost decoding processes, and what is being prepared."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing in advance, so that registering reads no figure."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All series, each with the model's name."""
        services = self._services
        name = services.settings.model_name
        state = services.engine.state
        is_taking = services.service.is_ready and not services.lifecycle.is_draining
        counts = {
            "engine_restarts": ("Restarts of a lost engine.", state.num_restarts),
            "image_decode_child_deaths": (
                "Decoding processes that an image ended.",
                services.preparer.decoder.num_deaths,
            ),
        }
        gauges = {
            "engine_ready": ("1 while requests are taken.", is_taking),
            "num_requests_preparing": (
                "Requests whose images and text are being prepared.",
                services.preparer.num_preparing,
            ),
            "num_waiting_prompt_tokens": (
                "Prompt tokens of the answers that wait.",
                services.service.num_waiting_tokens,
            ),
        }
        for series, (about, value) in counts.items():
            counter = CounterMetricFamily(PREFIX + series, about, labels=["model_name"])
            counter.add_metric([name], value)
            yield counter
        for series, (about, value) in gauges.items():
            gauge = GaugeMetricFamily(PREFIX + series, about, labels=["model_name"])
            gauge.add_metric([name], float(value))
            yield gauge
