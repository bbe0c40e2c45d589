"""The command line: one file per command, thin over `runtime` and `evaluation`."""
