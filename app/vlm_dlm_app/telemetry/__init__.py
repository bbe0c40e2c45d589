"""What the operator sees: the log, metrics, traces."""
