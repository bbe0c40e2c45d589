"""Pure tensor code under the checkpoint's own parameter names."""
