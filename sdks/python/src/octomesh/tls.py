"""Mutual TLS 1.3 between services that call each other direct over TCP, by SPIFFE ids."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octomesh._settings import split_address

log: Final = logging.getLogger("octomesh")

PROTOCOL: Final = "octo/1"
"""What both sides name by ALPN."""
TLS_TIMEOUT: Final = 5.0
"""Seconds that a handshake may take."""
_ID: Final = re.compile(r"spiffe://([^/:@?#]+)/([^/?#]+)/([^?#]*[^/?#])")


@dataclass(frozen=True)
class TLS:
    """The files, in PEM, by which this process shows who it is and knows others.

    Each handshake looks whether they have changed. Files that do not fit together leave the last good ones in use.
    """

    certificate: str
    """The process' own, followed by intermediates. It holds one SPIFFE id."""
    key: str
    authorities: str
    """Those that sign the certificates of peers."""


@dataclass(frozen=True)
class Id:
    """A SPIFFE id: `spiffe://<trust domain>/<environment>/<name>`."""

    trust_domain: str
    environment: str
    name: str

    @staticmethod
    def parse(uri: str) -> Id:
        """Read one. Raises `ValueError`."""
        found = _ID.fullmatch(uri)
        if found is None:
            raise ValueError(f"identity {uri!r} is not of the form spiffe://domain/environment/name")
        return Id(*found.groups())

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/{self.environment}/{self.name}"


class PeerError(Exception):
    """A peer is not who it should be."""


class Security:
    """What a process does for TLS."""

    def __init__(self, files: TLS, environment: str, expected: str = "") -> None:
        """Read the files. Raises `ValueError` or `OSError` where they cannot be used; expected is a server's id."""
        self._files = files
        self._expected = Id.parse(expected) if expected else None
        self._seen = self._look()
        self._client, self._server, self.own = self._load()
        if self.own.environment != environment:
            raise ValueError(
                f"certificate {files.certificate} is of environment {self.own.environment!r}, "
                f"this process of {environment!r}"
            )

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        states = [os.stat(name) for name in (self._files.certificate, self._files.key, self._files.authorities)]
        return tuple((s.st_mtime_ns, s.st_size, s.st_ino) for s in states)

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext, Id]:
        own = _own_id(Path(self._files.certificate).read_text("ascii"))
        return self._context(ssl.PROTOCOL_TLS_CLIENT), self._context(ssl.PROTOCOL_TLS_SERVER), own

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # ids count, and names of hosts do not
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # each connection proves its identity anew
        context.set_alpn_protocols([PROTOCOL])
        context.load_cert_chain(self._files.certificate, self._files.key)
        context.load_verify_locations(self._files.authorities)
        if side == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0
            context.sni_callback = self._at_handshake
        return context

    def _latest(self) -> None:
        """Read the files again, if they have changed and fit together."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._client, self._server, self.own = self._load()
                self._seen = seen
        except (OSError, ValueError) as error:
            log.warning("the certificate's files have changed and cannot be used; the last good ones hold: %s", error)

    def _at_handshake(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        self._latest()
        connection.context = self._server

    @property
    def client(self) -> ssl.SSLContext:
        """The side that dials."""
        self._latest()
        return self._client

    @property
    def server(self) -> ssl.SSLContext:
        """The side that accepts; it looks after its files itself."""
        return self._server

    def check(self, transport: asyncio.BaseTransport, *, of_server: bool) -> Id:
        """Return the id of a connection's peer. Raises `PeerError` if this process has nothing to do with it."""
        connection = transport.get_extra_info("ssl_object")
        if connection is None or connection.selected_alpn_protocol() != PROTOCOL:
            raise PeerError(f"the peer does not speak {PROTOCOL}")
        names = [value for kind, value in (connection.getpeercert() or {}).get("subjectAltName", ()) if kind == "URI"]
        if len(names) != 1:
            raise PeerError(f"the certificate holds {len(names)} URIs, want 1 SPIFFE id")
        try:
            peer = Id.parse(names[0])
        except ValueError as error:
            raise PeerError(str(error)) from None
        own = self.own
        if of_server and self._expected is not None and peer != self._expected:
            raise PeerError(f"the peer is {peer}, expected {self._expected}")
        if (peer.trust_domain, peer.environment) != (own.trust_domain, own.environment) and (
            self._expected is None or not of_server
        ):
            raise PeerError(f"{peer} is not of spiffe://{own.trust_domain}/{own.environment}")
        return peer


def over_tcp(address: str) -> None:
    """Refuse a Unix socket, whose peers the kernel vouches for. Raises `ValueError`."""
    if split_address(address)[0]:
        raise ValueError(f"TLS goes over TCP only, not at {address}")


_SUBJECT_ALT_NAME: Final = bytes.fromhex("0603551d11")
_URI: Final = 0x86


def _own_id(pem: str) -> Id:
    """Read the one SPIFFE id of a certificate, which the standard library shows of peers only. Raises `ValueError`."""
    begin, end = pem.find(ssl.PEM_HEADER), pem.find(ssl.PEM_FOOTER)
    if begin < 0 or end < begin:
        raise ValueError("the file holds no certificate in PEM")
    der = ssl.PEM_cert_to_DER_cert(pem[begin : end + len(ssl.PEM_FOOTER)])
    at = der.find(_SUBJECT_ALT_NAME)
    if at < 0:
        raise ValueError("the certificate holds no URI, want 1 SPIFFE id")
    at += len(_SUBJECT_ALT_NAME)
    if der[at : at + 1] == b"\x01":  # critical
        at = _value(der, at)[1]
    names = _value(der, _value(der, at)[0])
    uris = []
    at = names[0]
    while at < names[1]:
        begin, end = _value(der, at)
        if der[at] == _URI:
            uris.append(der[begin:end].decode("ascii"))
        at = end
    if len(uris) != 1:
        raise ValueError(f"the certificate holds {len(uris)} URIs, want 1 SPIFFE id")
    return Id.parse(uris[0])


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Say where the value of the element at an offset begins and ends. Raises `ValueError`."""
    try:
        size, begin = der[at + 1], at + 2
        if size >= 0x80:
            count = size & 0x7F
            size, begin = int.from_bytes(der[begin : begin + count], "big"), begin + count
    except IndexError:
        raise ValueError("the certificate is cut off") from None
    if begin + size > len(der):
        raise ValueError("the certificate is cut off")
    return begin, begin + size
