"""A checkpoint as files: its config, its tensors by name, and how it got here. No torch."""
