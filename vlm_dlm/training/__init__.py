"""Procedural training data: drawn scenes, their language and their labels; no torch."""
