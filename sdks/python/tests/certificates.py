"""Certificates with SPIFFE ids, and the authorities that sign them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import octomesh

_HOUR: Final = timedelta(hours=1)


def spiffe(name: str, environment: str = "test") -> str:
    """The id of an application of the tests' trust domain."""
    return f"spiffe://example.org/{environment}/app/{name}"


class Authority:
    """Signs certificates. expired: it could be relied on until an hour ago."""

    def __init__(self, *, expired: bool = False) -> None:
        self._key: Final = ec.generate_private_key(ec.SECP256R1())
        self._name: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        until = datetime.now(UTC) + (-_HOUR if expired else _HOUR)
        self.certificate: Final = (
            self._begun(self._name, self._key.public_key(), until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _begun(self, name: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 10 * _HOUR)
            .not_valid_after(until)
        )

    def files(
        self, folder: Path, *uris: str, trusts: tuple[Authority, ...] = (), expired: bool = False
    ) -> octomesh.TLS:
        """Write a certificate for ids, its key, and the authorities that are trusted: this one and others."""
        key = ec.generate_private_key(ec.SECP256R1())
        until = datetime.now(UTC) + (-_HOUR if expired else _HOUR)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        own = self._begun(x509.Name([]), key.public_key(), until).add_extension(names, critical=True)
        folder.mkdir(parents=True, exist_ok=True)
        certificate, secret, authorities = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
        certificate.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        authorities.write_bytes(b"".join(a.certificate.public_bytes(Encoding.PEM) for a in (self, *trusts)))
        return octomesh.TLS(str(certificate), str(secret), str(authorities))
