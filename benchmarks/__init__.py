"""Scripts that measure. Run from the repository root: `python -m benchmarks.NAME`."""
