"""vLLM as an engine: a server of it that is started here, or one that runs elsewhere."""
