"""Which addresses are public: our own table, so that no release of Python changes what may be called.

After the IANA IPv4 and IPv6 Special-Purpose Address Registries as of October 2025, which last gained `100:0:0:1::/64`
(https://www.iana.org/assignments/iana-ipv4-special-registry, …/iana-ipv6-special-registry), and the multicast
registries. Blocks that a registry calls globally reachable, but at which no site or machine can be (anycast
of protocols, AS112, AMT), are not allowed here either.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NOT_INTERNET_V4 = (
    "0.0.0.0/8",  # this network (RFC 791)
    "10.0.0.0/8",  # private (RFC 1918)
    "100.64.0.0/10",  # shared by carriers' customers (RFC 6598)
    "127.0.0.0/8",  # loopback (RFC 1122)
    "169.254.0.0/16",  # link-local (RFC 3927)
    "172.16.0.0/12",  # private (RFC 1918)
    "192.0.0.0/24",  # protocol assignments (RFC 6890): .8 dummy, .9 and .10 anycast, .170 and .171 NAT64 discovery
    "192.0.2.0/24",  # documentation (RFC 5737)
    "192.31.196.0/24",  # AS112 (RFC 7535)
    "192.52.193.0/24",  # AMT (RFC 7450)
    "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
    "192.168.0.0/16",  # private (RFC 1918)
    "192.175.48.0/24",  # AS112 (RFC 7534)
    "198.18.0.0/15",  # benchmarking (RFC 2544)
    "198.51.100.0/24",  # documentation (RFC 5737)
    "203.0.113.0/24",  # documentation (RFC 5737)
    "224.0.0.0/4",  # multicast (RFC 5771)
    "240.0.0.0/4",  # reserved (RFC 1112), limited broadcast (RFC 919)
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is assigned for unicast on the internet (RFC 4291, 2.4). Outside it lie `::`, `::1`, `::ffff:0:0/96`,
`64:ff9b::/96`, `64:ff9b:1::/48`, `100::/64`, `100:0:0:1::/64`, `5f00::/16`, `fc00::/7`, `fe80::/10`, `fec0::/10` and
`ff00::/8`."""
_NOT_INTERNET_V6 = (
    "2001::/23",  # protocol assignments (RFC 2928): Teredo, benchmarking, ORCHID, drones, anycast
    "2001:db8::/32",  # documentation (RFC 3849)
    "2620:4f:8000::/48",  # AS112 (RFC 7534)
    "3fff::/20",  # documentation (RFC 9637)
)
_PLATFORMS = (
    "168.63.129.16/32",  # Azure's WireServer and name server
    "199.36.153.4/30",  # Google's APIs as they are seen from inside its cloud (restricted)
    "199.36.153.8/30",  # the same (private)
    "161.26.0.0/16",  # IBM Cloud's services as they are seen from inside
    "166.8.0.0/14",  # the same
)
"""Services of clouds for their own machines only, although in public address space. Sources: each cloud's manual."""

METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # Amazon, Azure, Google, Oracle, DigitalOcean, Hetzner, OpenStack and others
            "169.254.169.253",  # Amazon's name server
            "169.254.170.2",  # Amazon ECS
            "169.254.170.23",  # Amazon EKS
            "169.254.0.23",  # Tencent
            "169.254.42.42",  # Scaleway
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # Amazon
            "fd00:ec2::253",  # Amazon's name server
            "fd00:ec2::23",  # Amazon EKS
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
            "fd00:42::42",  # Scaleway
            "fd00:a9fe:a9fe::1",  # Akamai
            "fd00:100::100:200",  # Alibaba
            "fe80::a9fe:a9fe",  # OpenStack
        ),
    )
)
"""Metadata services of clouds. Reached only if the operator names the very address."""


def is_internet(address: Address) -> bool:
    """Whether that is a public unicast address, at which a site or machine may be.

    Of an address that stands for another (6to4's `2002::/16` among them) the guard checks that other.
    """
    number = int(address)
    if isinstance(address, ipaddress.IPv4Address):
        return not any(number & mask == start for start, mask in _V4)
    return address in _GLOBAL_V6 and not any(number & mask == start for start, mask in _V6)


def _masks(*networks: str) -> tuple[tuple[int, int], ...]:
    parsed = map(ipaddress.ip_network, networks)
    return tuple((int(network.network_address), int(network.netmask)) for network in parsed)


_V4 = _masks(*_NOT_INTERNET_V4, *_PLATFORMS)
_V6 = _masks(*_NOT_INTERNET_V6)
