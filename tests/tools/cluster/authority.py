"""The cluster's certificates: one authority, a key pair for each part, and the kubeconfig that carries it."""

import base64
import datetime
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = datetime.timedelta(days=30)


class Authority:
    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = pem(builder.sign(self._key, hashes.SHA256()))
        (folder / "ca.crt").write_bytes(self.certificate)
        service_accounts = ec.generate_private_key(ec.SECP256R1())
        write_key(folder / "sa.key", service_accounts)
        (folder / "sa.pub").write_bytes(service_accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))

    def issue(self, name: str, user: str, group: str | None, hosts: list[str]) -> None:
        """NAME.crt and NAME.key; Kubernetes takes the common name as the user and the organisation as a group."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            subject.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        names = x509.SubjectAlternativeName([general_name(host) for host in [*hosts, name]])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(x509.Name(subject), key).add_extension(names, critical=False).add_extension(usage, critical=False)
        (self.folder / f"{name}.crt").write_bytes(pem(builder.sign(self._key, hashes.SHA256())))
        write_key(self.folder / f"{name}.key", key)

    def kubeconfig(self, name: str, server: str) -> str:
        """For the holder of NAME.key. Everything is inside, so that it can be used from anywhere."""
        data = {part: base64.b64encode((self.folder / f"{name}.{part}").read_bytes()).decode() for part in ("crt", "key")}
        authority = base64.b64encode(self.certificate).decode()
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}],
            "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"client-certificate-data": data["crt"], "client-key-data": data["key"]}}],
        })

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        return builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + LIFETIME)


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
