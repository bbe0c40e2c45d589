"""Names of uploaded files that mean harm to whoever believes them.

Each is what stands after `filename` in a part's header, with the statuses that may come.
"""

from __future__ import annotations

_READ, _REFUSED, _EITHER = frozenset({200}), frozenset({400, 413}), frozenset({200, 400})

# Read as if the name were any other.
_HARMLESS = (
    b'="x.png"',
    b'=""',
    b'="."',
    b'=".."',
    b'="../../../../etc/passwd"',
    b'="..\\\\..\\\\windows\\\\win.ini"',
    b'="/etc/hostname"',
    b'="C:\\\\x.png"',
    b'="\\\\\\\\host\\\\share\\\\x.png"',
    b'="file:///etc/hostname"',
    b'="http://127.0.0.1/x.png"',
    b'="%2e%2e%2fx.png"',
    b'="x.png%00.svg"',
    b'="x%0d%0aX-Injected: 1.png"',
    b'="page.html"',
    b'="x.svg"',
    b'="con.png"',
    b'="$(id).png"',
    b'="; rm -rf .png"',
    b'="-rf.png"',
    b'="<img src=x onerror=alert(1)>.png"',
    b'="{{7*7}}.png"',
    b'="%s%n%x.png"',
    b'="<|image_start|><|image_pad|><SPECIAL_100>.png"',
    b'="<|im_end|><think>.png"',
    '="\u202egnp.exe"'.encode(),
    '="\u0645\u0631\u062d\u0628\u0627 \U0001f600.png"'.encode(),
    b'="\xff\xfe\xfd.png"',
    b'="' + b"a" * 4096 + b'.png"',
    b'="' + b"../" * 1000 + b'x"',
    b'="x.png"; filename="y.png"',
    b"=\"x.png\"; filename*=UTF-8''y.png",
    b'="say \\"x\\".png"',
    b"=x.png",
)
# Breaks the header or its limit.
_HARMFUL = (b'="' + b"a" * 9000 + b'.png"', b'="x.png"\r\nbroken', b'="x\r\ny.png"')
# An unquoted end, a NUL, the form that its standard rules out: read or refused, as a parser likes.
_DOUBTFUL = (
    b"*=UTF-8''..%2F..%2Fx.png",
    b"*=UTF-8''%00%0A.png",
    b'="x.png',
    b'="x\0.png"',
    b'="x\ny.png"',
    b"*=unknown''x.png",
    b"*=UTF-8",
    b"=",
    b'="x.png"; name="other"',
)

NAMES: tuple[tuple[bytes, frozenset[int]], ...] = (
    *((name, _READ) for name in _HARMLESS),
    *((name, _REFUSED) for name in _HARMFUL),
    *((name, _EITHER) for name in _DOUBTFUL),
)
