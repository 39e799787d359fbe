"""Tests that the peers do what other tests rely on them for: refuse, expire, restart, misbehave."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.peers import realms
from tests.peers.canaille import Canaille, CanailleClient
from tests.peers.keycloak import Keycloak, ensure_keycloak
from tests.peers.plainhttp import Reply, request
from tests.peers.processes import (
    LOOPBACK,
    PeerFailed,
    PeerMissing,
    ProcessGroup,
    free_port,
    group_alive,
    wait_until,
)
from tests.peers.realms import TEAM1, TEAM2, JwtKey
from tests.peers.scripted import (
    ODD_ANSWERS,
    ScriptedEndpoint,
    echo_form,
    hang,
    never_read,
    redirect,
    token,
)

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def listening(port: int) -> bool:
    """Whether something takes connections on the port."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def about(reply: Reply, life: int) -> bool:
    """Whether the token lives `life` seconds, of which some were used while it was made."""
    remaining: int = reply.json()["expires_in"]
    return life - 2 <= remaining <= life


# Processes


def test_group_and_its_children_end_together(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & sleep 600"
    group = ProcessGroup(["sh", "-c", script], os.environ, tmp_path / "log")
    group.terminate(timeout=0.2)
    assert not group.alive


def test_group_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, time\n"
        "from tests.peers.processes import ProcessGroup\n"
        "group = ProcessGroup(['sleep', '600'], os.environ, pathlib.Path('log'))\n"
        "print(group.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, cwd=tmp_path, text=True
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert group_alive(pid)
        owner.kill()
    assert wait_until(lambda: not group_alive(pid), timeout=10)


# Canaille


@pytest.fixture(scope="module", params=[True, False], ids=["subprocess", "thread"])
def canaille(request: pytest.FixtureRequest) -> Iterator[Canaille]:
    known = CanailleClient("known", "canary-of-known", "repo")
    with Canaille(subprocess=request.param, clients=[known]) as running:
        yield running


def test_canaille_discovery_names_its_endpoint(canaille: Canaille) -> None:
    found = request("GET", f"{canaille.issuer}/.well-known/openid-configuration").json()
    assert found["token_endpoint"] == canaille.token_endpoint
    assert found["issuer"] == canaille.issuer


def test_canaille_gives_a_token_and_refuses_a_wrong_secret(canaille: Canaille) -> None:
    given = canaille.client_credentials("known", "canary-of-known")
    assert given.status == 200
    assert given.json()["token_type"] == "Bearer"
    assert given.json()["expires_in"] == 864_000
    assert canaille.client_credentials("known", "wrong").status == 401
    assert canaille.client_credentials("nobody", "wrong").status == 401


def test_canaille_takes_clients_while_it_runs_and_keeps_them(canaille: Canaille) -> None:
    assert canaille.client_credentials("late", "any").status == 401
    late = canaille.add_client("late")
    assert canaille.client_credentials("late", late.secret).status == 200
    canaille.kill()
    assert not listening(canaille.port)
    canaille.start()
    assert canaille.client_credentials("late", late.secret).status == 200
    assert canaille.client_credentials("known", "canary-of-known").status == 200
    renewed = canaille.add_client("late", "another")
    assert canaille.client_credentials("late", late.secret).status == 401
    assert canaille.client_credentials("late", renewed.secret).status == 200


def test_canaille_restarts_on_its_port(canaille: Canaille) -> None:
    port = canaille.port
    canaille.restart()
    assert canaille.port == port
    assert canaille.client_credentials("known", "canary-of-known").status == 200


def test_canaille_token_life_can_be_chosen() -> None:
    client = CanailleClient("brief", "canary")
    with Canaille(subprocess=True, clients=[client], token_lifetime=7) as running:
        assert running.client_credentials("brief", "canary").json()["expires_in"] == 7


def test_canaille_command_line_serves_one_client(tmp_path: Path) -> None:
    secret_file, port = tmp_path / "secret", free_port()
    secret_file.write_text("canary\n")
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "tests.peers.canaille", "--port", str(port)]
    command += ["--client", "demo", "--secret-file", str(secret_file)]
    environment = {**os.environ, "PYTHONPATH": root}
    group = ProcessGroup(command, environment, tmp_path / "log")
    try:
        assert wait_until(lambda: listening(port), timeout=30)
        with_canaille = Canaille(port=port)
        assert with_canaille.client_credentials("demo", "canary").status == 200
        with_canaille.close()
    finally:
        group.terminate()
    assert not listening(port)


def test_canaille_on_a_taken_port_fails() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        canaille = Canaille(port=taken.getsockname()[1], subprocess=True)
        try:
            with pytest.raises(PeerFailed, match="not free"):
                canaille.start()
        finally:
            canaille.close()


def test_canaille_that_cannot_start_shows_its_log() -> None:
    canaille = Canaille(subprocess=True)
    (canaille.folder / "clients.json").write_text("no JSON")
    try:
        with pytest.raises(PeerFailed, match=r"(?s)log ends:.*JSONDecodeError"):
            canaille.start(timeout=2)
    finally:
        canaille.close()


# The scripted endpoint


def post(url: str, timeout: float = 5) -> Reply:
    form = {"grant_type": "client_credentials", "client_secret": "canary"}
    return request("POST", url, form=form, timeout=timeout)


@pytest.fixture
def scripted() -> Iterator[ScriptedEndpoint]:
    with ScriptedEndpoint.in_thread() as endpoint:
        yield endpoint


def test_scripted_records_what_it_gets(scripted: ScriptedEndpoint) -> None:
    reply = post(scripted.url("/any"))
    assert reply.json()["access_token"] == "scripted-token"
    (recorded,) = scripted.requests
    assert (recorded.method, recorded.path, scripted.count) == ("POST", "/any", 1)
    assert recorded.form == {"grant_type": "client_credentials", "client_secret": "canary"}
    assert recorded.headers["content-type"] == "application/x-www-form-urlencoded"
    assert "canary" not in repr(recorded)


def test_scripted_queue_goes_before_paths(scripted: ScriptedEndpoint) -> None:
    scripted.queue(token("first"), redirect("http://127.0.0.2:9/x", 302))
    assert post(scripted.url("/not-json")).json()["access_token"] == "first"
    sent_on = post(scripted.url("/not-json"))
    assert (sent_on.status, sent_on.headers["location"]) == (302, "http://127.0.0.2:9/x")
    assert post(scripted.url("/not-json")).body == b"<html>welcome</html>"


def test_scripted_echo_gives_the_secret_back(scripted: ScriptedEndpoint) -> None:
    scripted.queue(echo_form(400))
    reply = post(scripted.url())
    assert reply.status == 400
    assert b"canary" in reply.body
    assert reply.headers["x-echo-client_secret"] == "canary"
    assert "canary" in reply.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/hang", "/endless", "/drip"])
def test_scripted_answers_without_an_end(scripted: ScriptedEndpoint, path: str) -> None:
    began = time.monotonic()
    with socket.create_connection((LOOPBACK, scripted.port), timeout=0.4) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = 0
        try:
            while time.monotonic() < began + 0.5:
                received += len(client.recv(65536))
        except TimeoutError:
            assert path == "/hang"
        assert (received == 0) == (path == "/hang")


def test_scripted_never_reads(scripted: ScriptedEndpoint) -> None:
    scripted.queue(never_read)
    with (
        socket.create_connection((LOOPBACK, scripted.port), timeout=0.5) as client,
        pytest.raises(TimeoutError),
    ):
        client.sendall(b"x" * (64 << 20))
    assert scripted.count == 0


@pytest.mark.parametrize("path", ["/reset", "/close"])
def test_scripted_breaks_off(scripted: ScriptedEndpoint, path: str) -> None:
    with pytest.raises(ConnectionError):
        post(scripted.url(path))


def test_scripted_sizes_and_statuses(scripted: ScriptedEndpoint) -> None:
    large = post(scripted.url("/megabyte-500"))
    assert (large.status, len(large.body)) == (500, 1 << 20)
    slow = post(scripted.url("/too-many"))
    assert (slow.status, slow.headers["retry-after"]) == (429, "1")


@pytest.mark.parametrize("path", sorted(p for p in ODD_ANSWERS if p.startswith(("/exp", "/tok"))))
def test_scripted_odd_tokens_are_json(scripted: ScriptedEndpoint, path: str) -> None:
    answer = post(scripted.url(path)).json()
    plain = {"access_token": "scripted-token", "token_type": "Bearer", "expires_in": 3600}
    assert json.dumps(answer) != json.dumps(plain)


def test_scripted_keeps_a_connection_for_the_next_request(scripted: ScriptedEndpoint) -> None:
    with socket.create_connection((LOOPBACK, scripted.port), timeout=5) as client:
        for number in (1, 2):
            client.sendall(b"GET /empty-body HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += client.recv(4096)
            assert scripted.count == number
    assert scripted.connections == 1


def test_scripted_stop_leaves_nothing() -> None:
    async def scenario() -> tuple[int, set[str]]:
        async with ScriptedEndpoint() as endpoint:
            endpoint.queue(never_read, hang)
            for _ in range(2):
                _reader, writer = await asyncio.open_connection(LOOPBACK, endpoint.port)
                writer.write(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                await writer.drain()
                clients.append(writer)
            assert await asyncio.to_thread(wait_until, lambda: endpoint.count == 1, 5)
        rest = {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(0)
        return endpoint.port, rest

    clients: list[asyncio.StreamWriter] = []
    before = threading.active_count()
    port, rest = asyncio.run(scenario())
    assert rest == set()
    assert not listening(port)
    assert threading.active_count() == before


# Keycloak: one server for the tests that leave it as it was, another where it is killed


def started(keycloak: Keycloak) -> Keycloak:
    """Start it; skip where there is none, unless the run insists on its peers."""
    try:
        keycloak.start()
    except PeerMissing as missing:
        keycloak.close()
        if os.environ.get("REQUIRE_PEERS") == "1":
            raise
        pytest.skip(f"no Keycloak: {missing}")
    except BaseException:
        keycloak.close()
        raise
    return keycloak


def test_keycloak_that_cannot_be_had_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSHELL_DRIVERS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OPENSHELL_DRIVERS_INSTALL", raising=False)
    with pytest.raises(PeerMissing, match="is missing; OPENSHELL_DRIVERS_INSTALL=1"):
        ensure_keycloak()
    assert [left.name for left in (tmp_path / "cache").iterdir()] == ["keycloak.lock"]


@pytest.fixture(scope="module")
def keycloak() -> Iterator[Keycloak]:
    running = started(Keycloak())
    yield running
    running.close()


pytestmark_keycloak = [pytest.mark.keycloak, pytest.mark.timeout(900)]


class TestKeycloak:
    pytestmark = pytestmark_keycloak

    @pytest.mark.parametrize("realm", [TEAM1, TEAM2])
    def test_tenants_have_clients_and_secrets_of_their_own(
        self, keycloak: Keycloak, realm: str
    ) -> None:
        url = f"{keycloak.issuer(realm)}/.well-known/openid-configuration"
        found = request("GET", url).json()
        assert found["issuer"] == keycloak.issuer(realm)
        assert found["token_endpoint"] == keycloak.token_endpoint(realm)
        given = keycloak.client_credentials(realm)
        assert given.status == 200
        assert about(given, realms.REALM_LIFE)
        assert "refresh_token" not in given.json()
        other = TEAM2 if realm == TEAM1 else TEAM1
        foreign = keycloak.secret(other, realms.PLAIN)
        assert keycloak.client_credentials(realm, secret=foreign).status == 401

    def test_disabled_client_is_refused(self, keycloak: Keycloak) -> None:
        reply = keycloak.client_credentials(TEAM1, realms.DISABLED)
        assert (reply.status, reply.json()["error"]) == (401, "invalid_client")

    def test_short_life(self, keycloak: Keycloak) -> None:
        reply = keycloak.client_credentials(TEAM1, realms.SHORT_LIVED)
        assert about(reply, realms.SHORT_LIFE)

    @pytest.mark.parametrize(
        ("client", "scope", "status"),
        [
            (realms.SCOPED, realms.REPO_SCOPE, 200),
            (realms.PLAIN, realms.REPO_SCOPE, 400),
            (realms.SCOPED, realms.UNKNOWN_SCOPE, 400),
        ],
    )
    def test_scopes(self, keycloak: Keycloak, client: str, scope: str, status: int) -> None:
        reply = keycloak.client_credentials(TEAM1, client, scope=scope)
        assert reply.status == status
        if status == 200:
            assert reply.json()["scope"] == scope
        else:
            assert reply.json()["error"] == "invalid_scope"

    @pytest.mark.parametrize("alg", ["RS256", "ES256"])
    def test_private_key_jwt(self, keycloak: Keycloak, alg: str) -> None:
        known = keycloak.realms.jwt_keys[alg]
        assert self._with_assertion(keycloak, known).status == 200
        foreign = self._with_assertion(keycloak, JwtKey.generate(alg))
        assert (foreign.status, foreign.json()["error"]) == (400, "invalid_client")
        forged = dataclasses.replace(JwtKey.generate(alg), kid=known.kid)
        assert self._with_assertion(keycloak, forged).status in (400, 401)

    def _with_assertion(self, keycloak: Keycloak, key: JwtKey) -> Reply:
        kind = RSAKey if key.alg == "RS256" else ECKey
        now = int(time.time())
        claims = {"iss": realms.JWT_CLIENT, "sub": realms.JWT_CLIENT, "iat": now, "exp": now + 60}
        claims |= {"aud": keycloak.issuer(TEAM1), "jti": os.urandom(8).hex()}
        header = {"alg": key.alg, "kid": key.kid}
        signed = jwt.encode(header, claims, kind.import_key(key.private_pem), [key.alg])
        form = {"grant_type": "client_credentials", "client_assertion": signed}
        form |= {"client_id": realms.JWT_CLIENT, "client_assertion_type": ASSERTION}
        return request("POST", keycloak.token_endpoint(TEAM1), form=form)

    @pytest.mark.parametrize(
        ("subject", "audience", "status"),
        [
            (realms.SUBJECT, realms.TARGET, 200),
            (realms.SUBJECT, realms.PLAIN, 400),
            (realms.PLAIN, realms.TARGET, 403),
        ],
    )
    def test_token_exchange(
        self, keycloak: Keycloak, subject: str, audience: str, status: int
    ) -> None:
        held = keycloak.client_credentials(TEAM1, subject).json()["access_token"]
        form = {"grant_type": EXCHANGE, "client_id": realms.EXCHANGER, "audience": audience}
        form |= {"client_secret": keycloak.secret(TEAM1, realms.EXCHANGER)}
        form |= {"subject_token": held, "subject_token_type": ACCESS_TOKEN}
        reply = request("POST", keycloak.token_endpoint(TEAM1), form=form)
        assert reply.status == status
        if status == 200:
            assert reply.json()["issued_token_type"] == ACCESS_TOKEN


@pytest.mark.thorough  # each starts a Keycloak of its own
class TestKeycloakChanges:
    pytestmark = pytestmark_keycloak

    def test_changes_by_the_administrator(self, keycloak: Keycloak) -> None:
        admin = keycloak.admin()
        admin.set_client_enabled(TEAM2, realms.DISABLED, True)
        assert keycloak.client_credentials(TEAM2, realms.DISABLED).status == 200
        admin.set_client_enabled(TEAM2, realms.DISABLED, False)
        assert keycloak.client_credentials(TEAM2, realms.DISABLED).status == 401
        renewed = admin.rotate_client_secret(TEAM2, realms.SCOPED)
        assert keycloak.client_credentials(TEAM2, realms.SCOPED).status == 401
        assert keycloak.client_credentials(TEAM2, realms.SCOPED, renewed).status == 200
        admin.set_token_lifespan(TEAM2, realms.SHORT_LIVED, 9)
        reply = keycloak.client_credentials(TEAM2, realms.SHORT_LIVED)
        assert about(reply, 9)

    def test_key_rotation_shows_in_the_tokens(self, keycloak: Keycloak) -> None:
        admin = keycloak.admin()
        before = admin.signing_kid(TEAM2)
        kids = [keycloak.admin().rotate_realm_keys(TEAM2) for _ in range(2)]
        assert len({before, *kids}) == 3
        jwks = request("GET", f"{keycloak.issuer(TEAM2)}/protocol/openid-connect/certs").json()
        assert {before, *kids} <= {key["kid"] for key in jwks["keys"]}

    def test_kill_and_restart_keep_port_and_data(self, keycloak: Keycloak) -> None:
        renewed = keycloak.admin().rotate_client_secret(TEAM1, realms.SCOPED)
        keycloak.kill()
        assert not keycloak.running
        assert not listening(keycloak.port)
        keycloak.start()
        assert keycloak.client_credentials(TEAM1, realms.SCOPED, renewed).status == 200
        keycloak.restart()
        assert keycloak.client_credentials(TEAM1, realms.SCOPED, renewed).status == 200

    def test_failed_start_says_why(self, keycloak: Keycloak) -> None:
        second = Keycloak(port=keycloak.port)
        try:
            with pytest.raises(PeerFailed, match="not free"):
                second.start()
            second.port = free_port()
            with pytest.raises(PeerFailed, match=r"was not ready .* its log ends"):
                second.start(timeout=0.5)
            assert not second.running
        finally:
            second.close()
        assert not second.home.exists()

    def test_https_with_a_ca_of_its_own(self) -> None:
        secure = started(Keycloak(https=True))
        try:
            assert secure.issuer(TEAM1).startswith("https://")
            assert secure.client_credentials(TEAM1).status == 200
            form = {"grant_type": "client_credentials", "client_id": realms.X509_CLIENT}
            endpoint = secure.token_endpoint(TEAM1)
            with_certificate = secure.tls_context(with_client_certificate=True)
            assert request("POST", endpoint, form=form, tls=with_certificate).status == 200
            assert request("POST", endpoint, form=form, tls=secure.tls_context()).status == 401
        finally:
            secure.close()


@pytest.mark.keycloak
@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_keycloak_command_line_serves_until_it_is_told(tmp_path: Path, keycloak: Keycloak) -> None:
    keycloak.stop()
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "tests.peers.keycloak", "run", "--port", str(free_port())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}, text=True
    ) as run:
        assert run.stdout is not None
        told = json.loads(run.stdout.readline())
        secret = json.loads(Path(told["client_secrets"]).read_text())[TEAM1][realms.PLAIN]
        form = {"grant_type": "client_credentials", "client_id": realms.PLAIN}
        endpoint = told["token_endpoints"][TEAM1]
        answer = request("POST", endpoint, form={**form, "client_secret": secret})
        assert answer.status == 200
        run.send_signal(signal.SIGTERM)
        assert run.wait(timeout=60) == 0
    assert not Path(told["client_secrets"]).exists()
