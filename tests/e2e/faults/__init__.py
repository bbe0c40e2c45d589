"""Faults done to a real server, with figures: small in the tests, large in benchmarks/serving."""
