"""What every request passes before a route sees it. Pure ASGI; one class per file.

From the outside in: `envelope`, `forwarded`, `paths`, `gate`, CORS, `guard`, `keys`, `pace`,
`door`, `body`, `head`.
"""
