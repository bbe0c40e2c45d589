"""One connection: heads, bodies, time, and the bytes of answers."""
