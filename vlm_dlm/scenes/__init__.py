"""The drawn world: scenes, what is said about them, and their labels. No torch."""
