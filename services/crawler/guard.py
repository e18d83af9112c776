"""Which addresses may be connected to. No private, link-local or metadata address is, whatever name leads to it.

Comes in: host names, and the networks that the operator allows. Goes out: addresses that were checked, and httpcore's
network backend that connects to exactly those. Does not know: HTTP, why one wants to connect.

The check stands where the connection is made: a name is resolved once, every address it has is checked, and the
connection goes to one of these. So redirects, names that resolve anew (DNS rebinding), decimal, octal and hexadecimal
spellings, and IPv6 forms of IPv4 addresses all meet it, and nothing between the check and the connection can change.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpcore

from services.errors import Forbidden, Misconfigured, Unavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port → addresses as text."""

_REFUSED: tuple[Network, ...] = tuple(
    ip_network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; some clouds have their metadata here
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, a public address in name only
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible, ::1 and :: with it
        "64:ff9b:1::/48",  # NAT64 with a prefix of the network's own: what it reaches cannot be told
        "100::/64",
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
"""Sources: IANA's special-purpose registries for IPv4 and IPv6, without the globally reachable entries."""


class Guard:
    """Resolves names to addresses that may be connected to."""

    def __init__(self, allowed: Iterable[Network] = (), resolver: Resolver | None = None) -> None:
        """`allowed`: networks that may be reached although they are private."""
        self._allowed = tuple(allowed)
        self._resolve = resolver or resolve

    def permits(self, address: str) -> bool:
        """Whether this literal address may be connected to."""
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        # Every form is judged on its own: an allowed IPv4 network allows its mapped forms too.
        return all(self._permits(form) for form in _forms(parsed))

    def _permits(self, address: Address) -> bool:
        if any(address in network for network in self._allowed if network.version == address.version):
            return True
        return address.is_global and not any(
            address in network for network in _REFUSED if network.version == address.version
        )

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them checked. Unavailable when it has none, Forbidden when any may not be
        reached: a name that points both outside and inside is a trick, or a mistake that should be seen."""
        return self.checked(host, await self._resolve(host, port))

    def checked(self, host: str, found: Sequence[str]) -> list[str]:
        """As `addresses`, for what a resolver has answered."""
        if not found:
            raise Unavailable(f"The host {host} has no address.")
        if not all(self.permits(each) for each in found):
            raise Forbidden(
                f"The host {host} leads to a private or special address. "
                "If it should be read, name its network in TWIN_CRAWLER_ALLOWED_NETWORKS.",
                param="address",
            )
        return list(dict.fromkeys(found))


def _forms(address: Address) -> list[Address]:
    """The addresses that one address stands for: the embedded IPv4 ones of IPv6's transition mechanisms."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    forms: list[Address] = [address]
    packed = address.packed
    if address in ip_network("64:ff9b::/96"):
        return [IPv4Address(packed[12:])]
    if address.sixtofour is not None:
        forms.append(address.sixtofour)
    if packed[8:12] in (b"\x00\x00\x5e\xfe", b"\x02\x00\x5e\xfe"):  # ISATAP, RFC 5214
        forms.append(IPv4Address(packed[12:]))
    return forms


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, separated by commas or spaces. Misconfigured."""
    try:
        return tuple(ip_network(each, strict=False) for each in text.replace(",", " ").split())
    except ValueError as error:
        raise Misconfigured(
            f"TWIN_CRAWLER_ALLOWED_NETWORKS holds what is no network ({error}); it takes such as 10.1.0.0/16, fd00::/8."
        ) from error


async def resolve(host: str, port: int) -> list[str]:
    """The system's own answer. Unavailable when the name is unknown or no name server answers."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"The host {host[:253]} is not known.") from error
    return [str(entry[4][0]) for entry in found]


class Refused(httpcore.ConnectError):
    """httpcore's face of a refusal, so that its pool cleans up as after any failed connection."""

    def __init__(self, error: Forbidden | Unavailable) -> None:
        super().__init__(error.message)
        self.error = error


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only. TLS is still done for the name: SNI, certificate and Host are the host's."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._guard.addresses(host, port)
        except (Forbidden, Unavailable) as error:
            raise Refused(error) from error
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("The name was not resolved in time.") from error
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses[:4]:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("No address answered.")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise Refused(Forbidden("Unix sockets are not fetched."))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
