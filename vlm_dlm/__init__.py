"""Tri-mode vision-language diffusion models: one checkpoint, four ways to write."""
