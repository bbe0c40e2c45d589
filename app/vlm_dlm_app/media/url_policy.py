"""Which http(s) addresses may be fetched: the shape of a URL, and the address behind its name.

A URL is parsed once, here, and only the parts found are used afterwards; no second parser can see
another host in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from vlm_dlm.errors import ImageError

MAX_URL_CHARS = 2048
MAX_HOST_CHARS = 253
PORTS = {"https": 443, "http": 80}

_FORM = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?)"
    r"(?:#[!-\[\]-~]*)?"
)
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Names that mean this machine or its network, whatever a resolver says.
_LOCAL_DOMAINS = ("localhost", "local", "internal", "arpa", "onion", "invalid", "test")

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_TRANSLATED = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
# Inside the global ranges, but not anyone's server: protocol assignments, documentation, relays.
_SPECIAL_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "3fff::/20")))
_SPECIAL_V4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))


@dataclass(frozen=True, slots=True)
class Target:
    """What to ask whom.

    host: lower-case name, or an address without brackets.
    path: with query.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def netloc(self) -> str:
        """For the Host header: brackets and a port only where they are needed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(
    url: str, schemes: tuple[str, ...] = ("https",), ports: tuple[int, ...] | None = None
) -> Target:
    """The parts of `url`. ports: allowed ones, None for the scheme's own.

    Raises ImageError for everything but a plain http(s) URL with a public name or address: no
    userinfo, no backslash, no character outside printable ASCII, no other way to write an address.
    """
    if len(url) > MAX_URL_CHARS:
        raise ImageError(f"the image URL has {len(url)} characters; the limit is {MAX_URL_CHARS}")
    found = _FORM.fullmatch(url)
    if found is None:
        raise ImageError(
            "the image URL is not a plain URL of the form https://host/path in ASCII characters"
        )
    scheme = found["scheme"].lower()
    if scheme not in schemes:
        raise ImageError(f"the image URL must begin with {' or '.join(schemes)}")
    port = int(found["port"]) if found["port"] else PORTS[scheme]
    allowed = (PORTS[scheme],) if ports is None else ports
    if port not in allowed:
        raise ImageError(f"the image URL must use port {' or '.join(map(str, allowed))}")
    path = found["path"]
    return Target(scheme, _host(found["host"]), port, path if path.startswith("/") else f"/{path}")


def follow(target: Target, location: str) -> str:
    """The URL that a redirect names, still to be parsed. Names no other host than it shows."""
    origin = f"{target.scheme}://{target.netloc}"
    if _ABSOLUTE.match(location):
        return location
    if location.startswith("//"):
        return f"{target.scheme}:{location}"
    path = target.path.partition("?")[0]
    if location.startswith("/"):
        return origin + location
    if location.startswith(("?", "#")) or not location:
        return origin + path + location
    return f"{origin}{path.rpartition('/')[0]}/{location}"


def is_public(address: str) -> bool:
    """Whether an address, as a resolver gives it, is somewhere on the open internet.

    An IPv4 address inside an IPv6 one (mapped, NAT64, 6to4) counts as itself.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address):
        inner = _inner_v4(found)
        if inner is None:
            return _is_public_v6(found)
        found = inner
    return _is_public_v4(found)


def _host(text: str) -> str:
    """Lower case and checked. Raises ImageError."""
    if text.startswith("["):
        host = _address(text[1:-1])
    elif text.rpartition(".")[2].isdigit():
        host = _address(text)
    else:
        return _name(text.lower())
    if not is_public(host):
        raise ImageError("the image URL names an address that is not on the open internet")
    return host


def _address(text: str) -> str:
    """Only the canonical way of writing it: four plain decimals, or IPv6 without a zone."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ImageError("the image URL has a host that is no valid address") from None


def _name(host: str) -> str:
    labels = host.split(".")
    is_well_formed = (
        len(host) <= MAX_HOST_CHARS
        and len(labels) > 1
        and all(_LABEL.fullmatch(label) for label in labels)
        # a last label of digits, also hexadecimal, would be read as an address by some resolvers
        and not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1])
    )
    if not is_well_formed or labels[-1] in _LOCAL_DOMAINS:
        raise ImageError("the image URL has a host that is no public name")
    return host


def _inner_v4(address: IPv6Address) -> IPv4Address | None:
    if address in _MAPPED or address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return None


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None or not address.is_global:
        return False
    return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_V6)


def _is_public_v4(address: IPv4Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _SPECIAL_V4)
