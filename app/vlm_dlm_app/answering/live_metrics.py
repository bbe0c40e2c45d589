"""Figures that others keep and that are read at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vlm_dlm_app.telemetry.metrics import PREFIX

if TYPE_CHECKING:
    from vlm_dlm_app.state import Services


@dataclass(frozen=True, slots=True)
class LiveSeries:
    """One of them.

    name: without the prefix.
    family: of the library.
    about: for the scrape.
    """

    name: str
    family: type[CounterMetricFamily | GaugeMetricFamily]
    about: str
    read: Callable[[Services], float]


SERIES = (
    LiveSeries(
        "engine_restarts",
        CounterMetricFamily,
        "Restarts of a lost engine.",
        lambda services: services.engine.state.num_restarts,
    ),
    LiveSeries(
        "image_decode_child_deaths",
        CounterMetricFamily,
        "Decoding processes that an image ended.",
        lambda services: services.preparer.decoder.num_deaths,
    ),
    LiveSeries(
        "engine_ready",
        GaugeMetricFamily,
        "1 while requests are taken.",
        lambda services: services.service.is_ready and not services.lifecycle.is_draining,
    ),
    LiveSeries(
        "num_requests_preparing",
        GaugeMetricFamily,
        "Requests whose images and text are being prepared.",
        lambda services: services.preparer.num_preparing,
    ),
    LiveSeries(
        "num_waiting_prompt_tokens",
        GaugeMetricFamily,
        "Prompt tokens of the answers that wait.",
        lambda services: services.service.num_waiting_tokens,
    ),
)


class LiveMetrics(Collector):
    """SERIES, each with the model's name."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> list[Metric]:
        """Nothing in advance, so that registering reads no figure."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read all of them now."""
        for series in SERIES:
            family = series.family(PREFIX + series.name, series.about, labels=["model_name"])
            value = float(series.read(self._services))
            family.add_metric([self._services.settings.model_name], value)
            yield family
