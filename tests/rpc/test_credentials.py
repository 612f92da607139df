"""Keys made for one generation, or brought by the user."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from distckpt.errors import ConfigurationError
from distckpt.protocol.messages import AgentEnvelope, Heartbeat
from distckpt.rpc.credentials import Credentials, Insecure, worker_name, workers_named


class Authority:
    """A user's own PKI, in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "own authority")])
        self._write(
            "authority", self._sign(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None)), self.key
        )

    def issue(self, dns_name: str) -> Credentials:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name)])
        self._write(dns_name, self._sign(subject, key, x509.SubjectAlternativeName([x509.DNSName(dns_name)])), key)
        return Credentials.from_files(
            self.path("authority.crt"), self.path(f"{dns_name}.crt"), self.path(f"{dns_name}.key")
        )

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _sign(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).add_extension(extension, critical=False)
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate, key: Any) -> None:
        pem = serialization.Encoding.PEM
        plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(plain)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_each_worker_has_a_certificate_of_its_own_that_names_it(keys: Any) -> None:
    coordinator, workers = keys
    assert len({each.key for each in (coordinator, *workers)}) == 5
    for index, worker in enumerate(workers):
        certificate = x509.load_pem_x509_certificate(worker.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [worker_name(index)]
        assert workers_named([worker_name(index).encode()]) == {index}


def test_two_generations_share_no_key_and_no_trust() -> None:
    first, second = Credentials.generate(1)[0], Credentials.generate(1)[0]
    assert first.key != second.key
    assert first.authority != second.authority


def test_certificates_hold_on_machines_whose_clocks_are_wrong_by_months(keys: Any) -> None:
    now = datetime.now(UTC)
    for each in (keys[0], keys[1][0]):
        for pem in (each.authority, each.certificate):
            certificate = x509.load_pem_x509_certificate(pem)
            assert certificate.not_valid_before_utc < now - timedelta(days=180)
            assert certificate.not_valid_after_utc > now + timedelta(days=3650)


def test_a_key_is_not_shown_by_what_holds_it(keys: Any) -> None:
    assert "PRIVATE" not in repr(keys)
    assert "PRIVATE" not in str(keys[0])


@pytest.mark.parametrize(
    "name", [b"worker-01.distckpt", b"worker-1.distckpt.example", b"worker--1.distckpt", b"xworker-1.distckpt", b""]
)
def test_only_the_exact_name_of_a_worker_names_it(name: bytes) -> None:
    assert workers_named([name]) == frozenset()


def test_certificates_of_ones_own_are_used_and_may_speak_for_any_worker(
    authority: Authority, serve: Any, connect: Any
) -> None:
    server = serve(authority.issue("localhost"))
    anyone = authority.issue("trainer.example")
    for worker in (1, 2):
        client = connect(server.address, worker, anyone)
        client.states.wait_for("")
        client.client.send(AgentEnvelope(client.sender, Heartbeat(worker)))
        server.messages.wait_for(AgentEnvelope(client.sender, Heartbeat(worker)))


def test_a_certificate_of_ones_own_that_names_a_worker_speaks_for_that_one_only(
    authority: Authority, serve: Any, connect: Any
) -> None:
    server = serve(authority.issue("localhost"))
    second = authority.issue(worker_name(2))
    connect(server.address, 2, second).states.wait_for("")
    connect(server.address, 1, second).states.wait(
        lambda states: "PERMISSION_DENIED" in states[-1] if states else False
    )


def test_a_coordinator_whose_certificate_is_for_another_host_is_not_spoken_to(
    authority: Authority, serve: Any, connect: Any
) -> None:
    server = serve(authority.issue("elsewhere.example"))
    client = connect(server.address, 1, authority.issue("trainer.example"))
    client.states.wait(lambda states: "UNAVAILABLE" in states[-1] if states else False)


def test_files_that_cannot_be_used_are_named_and_keys_are_not_shown(authority: Authority) -> None:
    authority.issue("localhost")
    authority.issue("other")
    good = [authority.path(name) for name in ("authority.crt", "localhost.crt", "localhost.key")]
    secret = Path(authority.path("other.key")).read_text().splitlines()[1]
    for position, bad in [(0, "absent.crt"), (0, "other.key"), (1, "other.key"), (2, "other.crt"), (2, "other.key")]:
        paths = [*good[:position], authority.path(bad), *good[position + 1 :]]
        with pytest.raises(ConfigurationError, match=bad) as caught:
            Credentials.from_files(*paths)
        assert secret not in str(caught.value)


def test_there_is_no_way_to_be_insecure_by_accident(serve: Any) -> None:
    assert not isinstance(Insecure(), Credentials)
    with pytest.raises(AttributeError):
        serve(object())
