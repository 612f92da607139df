"""TLS both ways: what each end of a connection shows, and whom it trusts.

By default the keys are made for one generation of one job, and handed out in a file that only the owner of the shared
directory can read (see `rendezvous`): who may not read the checkpoints may not speak to the coordinator. The key of
the authority is thrown away at once, so that nobody can make another certificate. A worker's certificate names it, as
`worker-N.distckpt`, and the server refuses what it says for another worker.

Keys never stand in a `repr`, a log line or an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from distckpt.errors import ConfigurationError

SERVER_NAME = "coordinator.distckpt"
_WORKER_NAME = re.compile(rb"worker-(0|[1-9][0-9]{0,6})\.distckpt")
# The trust ends with the generation, when its keys are forgotten: the dates only have to outlive any job and any clock.
_VALID_BEFORE = timedelta(days=366)
_VALID_AFTER = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One end's, all in PEM. `server_name` is what the server's certificate is for; None: the host that is dialled."""

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    server_name: str | None = None

    @staticmethod
    def generate(world_size: int) -> tuple[Credentials, tuple[Credentials, ...]]:
        """New keys for one generation: the coordinator's, and one for each worker, by index."""
        authority = _Authority()
        coordinator = authority.issue(SERVER_NAME, ExtendedKeyUsageOID.SERVER_AUTH)
        workers = (worker_name(index) for index in range(world_size))
        return coordinator, tuple(authority.issue(name, ExtendedKeyUsageOID.CLIENT_AUTH) for name in workers)

    @staticmethod
    def from_files(authority: str, certificate: str, key: str) -> Credentials:
        """Those of your own PKI, from PEM files. Raises ConfigurationError naming the file that cannot be used.

        The certificate of the coordinator must be for the host in its address. A worker's certificate that is for
        `worker-N.distckpt` can only speak for worker N; any other that `authority` signed can speak for any worker.
        """
        brought = Credentials(_read(authority), _read(certificate), _read(key))
        try:
            _check(brought)
        except (ValueError, TypeError) as error:
            files = f"{authority}, {certificate} and {key}"
            raise ConfigurationError(
                f"no usable credentials in {files} (PEM, the key not encrypted): {error}"
            ) from error
        return brought

    def for_server(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(self.key, self.certificate)], self.authority, require_client_auth=True)

    def for_client(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority, self.key, self.certificate)


@dataclass(frozen=True, slots=True)
class Insecure:
    """No TLS: whoever reaches the port can speak for any worker. Only ever used where someone asked for it."""


Security = Credentials | Insecure


def worker_name(index: int) -> str:
    """The DNS name that the certificate of worker `index` is for."""
    return f"worker-{index}.distckpt"


def workers_named(dns_names: Iterable[bytes]) -> frozenset[int]:
    """The workers that a certificate with these names speaks for; none where it names no worker."""
    return frozenset(int(match[1]) for name in dns_names if (match := _WORKER_NAME.fullmatch(name)))


class _Authority:
    """Signs the certificates of one generation, and is then forgotten."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "distckpt generation authority")])
        builder = _builder(self._name, self._name, self._key)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, dns_name: str, usage: x509.ObjectIdentifier) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
        certificate = (
            _builder(subject, self._name, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(dns_name)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Credentials(
            authority=self._pem,
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            key=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            server_name=SERVER_NAME,
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _VALID_BEFORE)
        .not_valid_after(now + _VALID_AFTER)
    )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read the credentials in {path}: {error}") from error


def _check(credentials: Credentials) -> None:
    """Raises ValueError or TypeError where gRPC would take what is no certificate, and then refuse every connection."""
    x509.load_pem_x509_certificates(credentials.authority)
    leaf = x509.load_pem_x509_certificates(credentials.certificate)[0]
    key = serialization.load_pem_private_key(credentials.key, password=None)
    if key.public_key() != leaf.public_key():
        raise ValueError("the key is not the certificate's")
