"""TLS: whom the driver trusts, and how it shows its own certificate."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from examples.keycloak_credentials.tests.world import Settings, World, failure, resolve
from openshell_drivers import FailedPrecondition, Unavailable
from tests.peers.scripted import ScriptedEndpoint


@dataclass
class Secure:
    """An issuer over TLS, and the CA it belongs to."""

    ca: trustme.CA
    ca_file: Path
    context: ssl.SSLContext
    endpoint: ScriptedEndpoint


@pytest.fixture
async def secure(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Secure]:
    ca = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    async with ScriptedEndpoint(tls=context) as endpoint:
        yield Secure(ca, ca_file, context, endpoint)


def with_certificate(world: World, secure: Secure, issuer: trustme.CA) -> Settings:
    """Configure tls_client_auth with a certificate of a CA."""
    leaf = issuer.issue_cert("client.test", common_name="client.test")
    world.write("tls.crt", leaf.cert_chain_pems[0].bytes().decode())
    world.write("tls.key", leaf.private_key_pem.bytes().decode())
    return {
        "client_id": "sandbox",
        "token_endpoint": secure.endpoint.url(),
        "auth": "tls_client_auth",
        "client_cert_ref": "tls.crt",
        "client_key_ref": "tls.key",
        "ca_file": str(secure.ca_file),
    }


async def test_issuer_of_a_ca_of_ones_own_is_trusted_by_ca_file(
    world: World, secure: Secure
) -> None:
    settings = world.post(secure.endpoint.url(), ca_file=str(secure.ca_file))
    async with world.driver(one=settings) as driver:
        await resolve(driver)


async def test_ssl_cert_file_is_honoured(
    world: World, secure: Secure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))
    async with world.driver(one=world.post(secure.endpoint.url())) as driver:
        await resolve(driver)


async def test_unknown_ca_is_a_failed_precondition_and_gets_no_secret(
    world: World, secure: Secure
) -> None:
    async with world.driver(one=world.post(secure.endpoint.url())) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "certificate" in error.message
    assert secure.endpoint.count == 0


async def test_certificate_for_another_host_is_a_failed_precondition(
    world: World, secure: Secure
) -> None:
    url = f"https://localhost:{secure.endpoint.port}/token"
    async with world.driver(one=world.post(url, ca_file=str(secure.ca_file))) as driver:
        assert type(await failure(driver)) is FailedPrecondition


async def test_server_that_speaks_no_tls_is_unavailable(
    world: World, endpoint: ScriptedEndpoint
) -> None:
    url = f"https://127.0.0.1:{endpoint.port}/token"
    async with world.driver(one=world.post(url, timeout=3)) as driver:
        assert type(await failure(driver)) is Unavailable


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_unusable_ca_file_is_named(
    world: World, endpoint: ScriptedEndpoint, content: str | None
) -> None:
    file = world.folder / "bundle.pem"
    if content is not None:
        file.write_text(content)
    async with world.driver(one=world.post(endpoint.url(), ca_file=str(file))) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "ca_file" in error.message


async def test_mended_ca_file_works_at_the_next_call(world: World, secure: Secure) -> None:
    file = world.folder / "bundle.pem"
    trustme.CA().cert_pem.write_to_path(file)
    settings = world.post(secure.endpoint.url(), ca_file=str(file))
    async with world.driver(one=settings) as driver:
        await failure(driver)
        file.write_bytes(secure.ca_file.read_bytes())
        await resolve(driver)


async def test_client_certificate_is_shown(world: World, secure: Secure) -> None:
    secure.context.verify_mode = ssl.CERT_REQUIRED
    async with world.driver(one=with_certificate(world, secure, secure.ca)) as driver:
        await resolve(driver)

    form = secure.endpoint.requests[0].form
    assert form == {"grant_type": "client_credentials", "client_id": "sandbox"}


@pytest.fixture
def alerting(secure: Secure) -> Iterator[int]:
    """A server that refuses certificates with an alert and waits for the client to leave."""
    secure.context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            wrapped = secure.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
            with wrapped:
                wrapped.settimeout(20)
                with suppress(ssl.SSLError):
                    wrapped.do_handshake()
                while socket.socket.recv(wrapped, 65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)


async def test_refused_client_certificate_is_a_failed_precondition(
    world: World, secure: Secure, alerting: int
) -> None:
    settings = with_certificate(world, secure, trustme.CA())
    settings["token_endpoint"] = f"https://127.0.0.1:{alerting}/token"
    async with world.driver(one=settings) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "client certificate" in error.message


async def test_reset_instead_of_an_alert_is_unavailable(world: World, secure: Secure) -> None:
    secure.context.verify_mode = ssl.CERT_REQUIRED
    async with world.driver(one=with_certificate(world, secure, trustme.CA())) as driver:
        assert type(await failure(driver)) is Unavailable


async def test_renewed_client_certificate_is_used_at_the_next_call(
    world: World, secure: Secure
) -> None:
    secure.context.verify_mode = ssl.CERT_REQUIRED
    async with world.driver(one=with_certificate(world, secure, trustme.CA())) as driver:
        await failure(driver)
        with_certificate(world, secure, secure.ca)
        await resolve(driver)


async def test_key_of_another_certificate_is_refused(world: World, secure: Secure) -> None:
    settings = with_certificate(world, secure, secure.ca)
    other = secure.ca.issue_cert("client.test")
    world.write("tls.key", other.private_key_pem.bytes().decode())
    async with world.driver(one=settings) as driver:
        error = await failure(driver)

    assert type(error) is FailedPrecondition
    assert "client_key_ref" in error.message
