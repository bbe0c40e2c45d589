"""What a checkpoint needs, what this machine has, and what to choose. Loads no weights."""
