"""How image bytes get in: data URIs, and http(s) addresses where they are switched on."""
