"""Which proxies are believed, and what they say of the request that they hand on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_network,
)

from starlette.datastructures import Headers

from vlm_dlm_app.http.header_values import is_host

LOOPBACK, UNIX = "loopback", "unix"
LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
MAX_PREFIX_CHARS = 200
MAX_ADDRESS_CHARS = 64
MAX_HOPS = 16  # that are read of a list which the client may have begun
# First parts of the server's own addresses: a sub-path of such a name could not be told from them.
# A test compares them with what the API and the page answer.
OWN_SEGMENTS = frozenset(
    {
        *("v1", "health", "metrics", "version", "openapi.json"),
        *("assets", "config", "favicon.ico", "gradio_api", "manifest.json", "page", "robots.txt"),
        *("static", "theme.css"),
    }
)
FORWARDED_NAMES = frozenset(
    {
        *(b"forwarded", b"x-real-ip", b"x-gradio-server", b"x-forwarded-for", b"x-forwarded-host"),
        *(b"x-forwarded-proto", b"x-forwarded-prefix", b"x-forwarded-port"),
        *(b"x-forwarded-server", b"x-forwarded-ssl", b"x-forwarded-scheme"),
    }
)
_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]+)\](:[0-9]+)?|(?P<v4>[0-9.]+):[0-9]+")
_SCHEMES = ("http", "https")

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What a believed proxy says; None for what it does not, or not in a form that is taken.

    client: address of whoever asked the outermost proxy that is believed.
    host: with its port if it has one.
    prefix: the path under which it shows this server, without a slash at the end.
    """

    client: str
    scheme: str | None = None
    host: str | None = None
    prefix: str | None = None


class TrustedProxies:
    """names: addresses, networks, `loopback` and `unix` (a socket in the file system). Raises
    ValueError for anything else."""

    def __init__(self, names: Sequence[str]) -> None:
        self._has_unix = UNIX in names
        self._networks = [each for name in names for each in _networks(name)]

    @property
    def are_everybody(self) -> bool:
        """Whether they are all addresses there are, also as the sum of several networks."""
        first = [each for each in self._networks if isinstance(each, IPv4Network)]
        later = [each for each in self._networks if isinstance(each, IPv6Network)]
        merged = [*collapse_addresses(first), *collapse_addresses(later)]
        return any(each.prefixlen == 0 for each in merged)

    def trusts(self, address: str | None) -> bool:
        """Whether what comes from there is believed. None: a socket in the file system."""
        if not address:
            return self._has_unix
        found = _parsed(address)
        return found is not None and self._has(found)

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == each.version and address in each for each in self._networks)

    def read(self, peer: str | None, headers: Headers) -> Forwarded | None:
        """What `peer`, who handed on the request, says of it; None if it is not believed. Of
        several values the last counts: it is the nearest proxy's."""
        if not self.trusts(peer):
            return None
        scheme = _last(headers, "x-forwarded-proto").lower()
        host = _last(headers, "x-forwarded-host")
        return Forwarded(
            client=self._client(peer or "", _values(headers, "x-forwarded-for", MAX_HOPS)),
            scheme=scheme if scheme in _SCHEMES else None,
            host=host if is_host(host) else None,
            prefix=as_prefix(_last(headers, "x-forwarded-prefix")),
        )

    def _client(self, peer: str, hops: Sequence[str]) -> str:
        """From the right, the first that is not a believed proxy itself: what stands left of it,
        it may have made up. `peer` is one."""
        found = peer
        for hop in reversed(hops):
            address = _parsed(_without_port(hop))
            if address is None:
                break
            found = str(address)
            if not self._has(address):
                break
        return found


def as_prefix(text: str) -> str | None:
    """A path such as /vlm or /apps/vlm, without slashes at its end ('' for the root); None if it is
    none that can be served under."""
    path = text.rstrip("/")
    if not path:
        return "" if text else None
    if len(path) > MAX_PREFIX_CHARS or not _PREFIX.fullmatch(path):
        return None
    return None if path.split("/")[1] in OWN_SEGMENTS else path


def _networks(name: str) -> list[Network]:
    if name == UNIX:
        return []
    if name == LOOPBACK:
        return [ip_network(each) for each in LOOPBACK_NETWORKS]
    return [ip_network(name)]


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    if len(text) > MAX_ADDRESS_CHARS:
        return None
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _without_port(hop: str) -> str:
    found = _WITH_PORT.fullmatch(hop)
    return (found["v6"] or found["v4"]) if found else hop


def _values(headers: Headers, name: str, most: int) -> list[str]:
    """The last of them, over all lines."""
    found: list[str] = []
    for line in reversed(headers.getlist(name)):
        found = [*line.rsplit(",", most)[-most:], *found]
        if len(found) >= most:
            break
    return [part.strip() for part in found[-most:]]


def _last(headers: Headers, name: str) -> str:
    values = _values(headers, name, 1)
    return values[0] if values else ""
