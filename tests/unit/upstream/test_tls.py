"""Is the upstream who it says it is?  Certificates of a local CA, good and bad; the key is sent to the good ones only."""

import datetime as dt
import ipaddress
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.upstream import Outgoing, PyqwestTransport
from tests.support.gateway import GENERATE, TEXT, running
from tests.support.wire import answer, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}'
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
ELSEWHERE = x509.DNSName("elsewhere.test")
DAY = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def save(self, path: Path) -> Path:
        """Both, as PEM."""
        secret = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM) + secret)
        return path


def signed(name: x509.GeneralName | None, *, by: Signed | None = None, days: tuple[int, int] = (-1, 30)) -> Signed:
    """A certificate for `name`, or of a CA where there is none; signed by itself, or by a CA."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "upstream" if name else "local CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(x509.BasicConstraints(ca=name is None, path_length=None), critical=True)
    )
    if name is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), critical=False)
    return Signed(certificate=builder.sign(by.key if by else key, hashes.SHA256()), key=key)


def served_with(
    certificate: Signed, folder: Path, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    """A server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.save(folder / "server.pem"))
    if newest < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = context.maximum_version = newest
    return context


@pytest.fixture(scope="module")
def authority() -> Signed:
    """The CA that operators name by GATEWAY_UPSTREAM_CA_FILE."""
    return signed(None)


async def asked(folder: Path, tls: ssl.SSLContext, ca: Signed | None) -> tuple[int, str, int]:
    """Status, reason and the number of requests that the upstream saw."""
    ca_file = ca.save(folder / "ca.pem") if ca else None
    async with (
        wire(saying(answer(GOOD)), tls=tls) as upstream,
        running(folder, upstream.url, upstream_ca_file=ca_file, call_timeout_seconds=0.5) as gateway,
    ):
        response = await gateway.http.post(GENERATE, json=TEXT)
    reason = "" if response.status_code == 200 else response.json()["error"]["details"][0]["reason"]
    return response.status_code, reason, len(upstream.heads)


async def test_a_private_authority(tmp_path: Path, authority: Signed) -> None:
    """U13: with GATEWAY_UPSTREAM_CA_FILE its upstream is trusted, and without it is not."""
    tls = served_with(signed(HERE, by=authority), tmp_path)
    assert (200, "", 1) == await asked(tmp_path, tls, authority)
    assert (502, "UPSTREAM_UNREACHABLE", 0) == await asked(tmp_path, tls, None)


@pytest.mark.parametrize("fault", ["expired", "not yet", "wrong host", "signed by itself", "another CA", "TLS 1.1"])
async def test_a_bad_certificate(tmp_path: Path, authority: Signed, fault: str) -> None:
    """U13 S7: an upstream that cannot prove who it is gets no byte of a request, and nothing is tried without TLS."""
    certificate = {
        "expired": lambda: signed(HERE, by=authority, days=(-30, -1)),
        "not yet": lambda: signed(HERE, by=authority, days=(1, 30)),
        "wrong host": lambda: signed(ELSEWHERE, by=authority),
        "signed by itself": lambda: signed(HERE),
        "another CA": lambda: signed(HERE, by=signed(None)),
    }.get(fault, lambda: signed(HERE, by=authority))()
    newest = ssl.TLSVersion.TLSv1_1 if fault == "TLS 1.1" else ssl.TLSVersion.TLSv1_3
    tls = served_with(certificate, tmp_path, newest=newest)
    assert (502, "UPSTREAM_UNREACHABLE", 0) == await asked(tmp_path, tls, authority)


async def test_no_tls_at_all() -> None:
    """U13 U16: a peer that does not speak TLS hears no request; the connect deadline covers the handshake."""
    async with wire(saying(answer(GOOD))) as upstream:
        url = upstream.url.replace("http:", "https:")
        way = PyqwestTransport(url, connect_seconds=0.2)
        with pytest.raises(httpx.ConnectError):
            await way.send(Outgoing("GET", url, [("host", "x")], b""))
        await way.aclose()
    assert [] == upstream.heads
