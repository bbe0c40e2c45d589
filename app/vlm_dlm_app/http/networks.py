"""Which addresses count as one client."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

# A client behind IPv6 owns a whole network, so its addresses count as one.
IPV6_PREFIX = 64


def network_of(host: str) -> str:
    """The name shared by all addresses of one client; what is no address is its own name."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)
