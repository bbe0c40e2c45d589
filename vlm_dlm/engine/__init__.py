"""When things run: queue, cache, one packed forward per step, events."""
