"""What any HTTP server of this kind needs: bodies, errors, streams, keys. Knows no model."""
