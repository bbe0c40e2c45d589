"""Bodies of requests and replies. Shapes and ranges only; what they mean is decided elsewhere."""
