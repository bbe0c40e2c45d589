"""Who waits, who runs next, and how long that takes."""
