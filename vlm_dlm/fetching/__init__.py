"""Published checkpoints: which are known, how their files get here and stay what they were."""
