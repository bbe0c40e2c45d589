"""The engine in a process of its own: its frames, its link, its life."""
