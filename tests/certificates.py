"""A certificate authority of the tests' own, a server's certificate from it, and one from an authority that nobody trusts."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


class Certificates:
    def __init__(self, folder: Path, hosts: tuple[str, ...] = ()):
        """Writes everything into the folder; `authority` is what a client is to trust. Servers are this machine and `hosts`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = folder / "trusted-authority.pem"
        self._chains = {name: chain(folder, name, hosts) for name in ("trusted", "stranger")}

    def server(self, trusted: bool, *protocols: str) -> ssl.SSLContext:
        """A server's side of TLS that offers these protocols by ALPN (RFC 7301)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chains["trusted" if trusted else "stranger"])
        context.set_alpn_protocols(list(protocols))
        return context


def chain(folder: Path, name: str, hosts: tuple[str, ...]) -> Path:
    """A new authority, and one file with the key and the certificate of a server that it vouches for."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} test authority")])
    root = signed(issuer, issuer, authority, authority, x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), *map(x509.DNSName, ("localhost", *hosts))])
    leaf = signed(x509.Name([]), issuer, server, authority, names)
    (folder / f"{name}-authority.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    key = server.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / f"{name}-server.pem"
    file.write_bytes(key + leaf.public_bytes(serialization.Encoding.PEM))
    return file


def signed(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey,
           extension: x509.ExtensionType) -> x509.Certificate:
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
    # A server without a subject must have its names marked as critical (RFC 5280, section 4.2.1.6).
    return builder.add_extension(extension, critical=True).sign(by, hashes.SHA256())
