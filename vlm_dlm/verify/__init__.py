"""`vlm-dlm verify`: is what we took for granted about a checkpoint true of these files?

One small function per question; `checks.py` is the table of all of them.
"""
