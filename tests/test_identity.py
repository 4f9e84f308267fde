"""Whose account a request is charged to: the pod, a token that Envoy verified, a client's certificate; never a client's word."""

import base64
import json
import ssl
from pathlib import Path
from typing import Any, Iterator

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

import cases
import certificates
import protocols
from harness import Gateway
from world import World

ONE = {"limit": {"requests": 1}, "window": {"calendar": "month"}}


def gateway_of(world: World, name: str, budgets: list[dict[str, Any]], listener: dict[str, Any] | None = None) -> Gateway:
    gateway = world.fresh("small", name)
    gateway.values["gateway"] = gateway.values["gateway"] | {"budgets": budgets}
    gateway.values["listener"] = gateway.values["listener"] | (listener or {})
    return gateway


@pytest.fixture(autouse=True)
def answering(quiet: World) -> Iterator[None]:
    quiet.provider.rule("openai", lambda seen: {"json": protocols.saying("openai", "ok")})
    yield


def ask(gateway: Gateway, headers: dict[str, str] | None = None, client: httpx.Client | None = None, scheme: str = "http") -> int:
    request = cases.request_of({"model": "talk", "headers": headers or {}})
    send = client.post if client else httpx.post
    return send(f"{scheme}://127.0.0.1:{gateway.port}{request.path}", content=request.body, headers=request.headers).status_code


def test_the_pod(world: World, quiet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy's environment says who the pod is, and no header does."""
    monkeypatch.setenv("ATTACHE_NAMESPACE", "shop")
    monkeypatch.setenv("ATTACHE_SERVICE_ACCOUNT", "till")
    monkeypatch.setenv("ATTACHE_LABELS", "app=cart,app.kubernetes.io/part-of=shop,none=")
    mine = {"workload.namespace": ["shop"], "workload.serviceAccount": ["till"], "workload.label.app": ["cart"],
            "workload.label.app.kubernetes.io/part-of": ["shop"]}
    others = [{"workload.namespace": ["other"]}, {"workload.label.none": [""]}, {"workload.label.tier": ["x"]}]
    budgets = [{"name": "mine", "match": {"facts": mine}, **ONE, "limit": {"requests": 2}}]
    budgets += [{"name": f"other-{index}", "match": {"facts": facts}, **ONE} for index, facts in enumerate(others)]
    with gateway_of(world, "identity-pod", budgets) as gateway:
        assert [ask(gateway, {"x-attache-namespace": "other"}) for _ in range(3)] == [200, 200, 429]


def test_a_token_that_envoy_verified(world: World, quiet: World) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "alg": "RS256", "kid": "k", "n": number64(numbers.n), "e": number64(numbers.e)}

    def token(claims: dict[str, Any]) -> str:
        parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, {"iss": "test", **claims})]
        signed = ".".join(parts)
        return f"{signed}.{base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    authn = {"name": "envoy.filters.http.jwt_authn", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"test": {"issuer": "test", "payload_in_metadata": "jwt_payload", "from_headers": [{"name": "x-token"}],
                               "local_jwks": {"inline_string": json.dumps({"keys": [jwk]})}}},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "test"}}]}}
    budgets = [{"name": "each", "per": ["jwt.sub"], "match": {"facts": {"jwt.https://claims.test/tier": ["basic"]}}, **ONE}]
    budgets.append({"name": "tenants", "per": ["jwt.tenant"], "match": {"facts": {"jwt.https://claims.test/tier": ["team"]}}, **ONE})
    with gateway_of(world, "identity-jwt", budgets, {"httpFilters": [authn]}) as gateway:
        def basic(name: str) -> int:
            return ask(gateway, {"x-token": token({"sub": name, "https://claims.test/tier": "basic"})})

        assert [basic("ann"), basic("ann"), basic("bob")] == [200, 429, 200]
        numbered = [ask(gateway, {"x-token": token({"sub": "x", "tenant": tenant, "https://claims.test/tier": "team"})}) for tenant in (133, 135, 133)]
        assert numbered == [200, 200, 429], "numbers are told apart"
        gold = {"x-token": token({"sub": "ann", "https://claims.test/tier": "gold"})}
        assert [ask(gateway, gold) for _ in range(2)] == [200, 200]
        assert ask(gateway, {"x-token": token({"sub": "ann"}) + "x"}) == 401


def test_a_clients_certificate(world: World, quiet: World, tmp_path: Path) -> None:
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peers")])
    root = certificates.signed(issuer, issuer, authority, authority, x509.BasicConstraints(ca=True, path_length=None))
    (tmp_path / "root.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def chain(name: str, *names: x509.GeneralName) -> str:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = certificates.signed(x509.Name([]), issuer, key, authority, x509.SubjectAlternativeName(names))
        file = tmp_path / f"{name}.pem"
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
        return str(file)

    server = chain("server", x509.DNSName("localhost"))
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {"tls_certificates": [{"certificate_chain": {"filename": server}, "private_key": {"filename": server}}],
                               "validation_context": {"trusted_ca": {"filename": str(tmp_path / "root.pem")}}}}}

    def client(name: str) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(tmp_path / "root.pem"))
        context.check_hostname = False
        context.load_cert_chain(chain(name, x509.UniformResourceIdentifier(f"spiffe://shop/{name}")))
        return httpx.Client(verify=context)

    budgets = [{"name": "each", "per": ["peer"], "match": {"facts": {"peer": ["spiffe://shop/till", "spiffe://shop/cart"]}}, **ONE}]
    with gateway_of(world, "identity-peer", budgets, {"transportSocket": socket}) as gateway:
        with client("till") as till, client("cart") as cart, client("door") as door:
            told = [ask(gateway, client=one, scheme="https") for one in (till, till, cart, cart, door, door)]
    assert told == [200, 429, 200, 429, 200, 200]


def number64(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
