"""Untrusted pictures: what their bytes announce, and decoding in children with limits."""
