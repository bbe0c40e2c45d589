"""Every field that clients of this kind of API are known to send, and what becomes of it.

One table for the checks and for docs/fields.md: `rules` says how a field is judged, `request`,
`extras`, `samplers` and `nested` are the table, `page` writes it down.
"""
