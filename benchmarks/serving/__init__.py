"""Load, faults and overhead of a real server process, over real sockets."""
