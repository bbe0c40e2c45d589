"""What every request passes before a route sees it. Pure ASGI; one class per file.

From the outside in: `envelope`, `paths`, `gate`, CORS, `guard`, `keys`, `door`, `body`, `head`.
"""
