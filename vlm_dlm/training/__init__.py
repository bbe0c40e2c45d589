"""The loop that makes the embedded checkpoint: packing, losses, stages, export."""
