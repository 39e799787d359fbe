"""Runs Canaille, an identity provider from PyPI, on loopback: in a thread or as a subprocess.

``python -m tests.peers.canaille --port N --client ID --secret-file F`` serves until it is ended.
Clients are kept in a file that is looked at before each request, so they are the same after a
restart and one can be added while it runs. Tokens (opaque, good for ten days unless another life is
asked for) and signing keys live in memory and are gone after a restart. For client_credentials
Canaille takes the secret in HTTP Basic only (in the form it is a 401), and leaves out scopes that
the client does not have instead of refusing. One thread-mode instance at a time in a process:
Canaille keeps its state in module globals.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

from tests.peers.plainhttp import Reply, request
from tests.peers.processes import (
    LOOPBACK,
    PeerFailed,
    ProcessGroup,
    free_port,
    require_free,
    tail,
    wait_until,
)

START_TIMEOUT = 60.0
_ROOT = Path(__file__).resolve().parents[2]
_INSECURE = "AUTHLIB_INSECURE_TRANSPORT"

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(Protocol):
    def serve_forever(self, poll_interval: float = 0.5) -> None: ...
    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


@dataclass(frozen=True)
class CanailleClient:
    """A confidential client that may ask for tokens in its own name."""

    client_id: str
    secret: str = field(repr=False)
    scope: str = ""


class Canaille:
    """One Canaille; a context manager that starts and ends it.

    `subprocess=True` runs it in a process of its own, which `kill` can end the hard way.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        clients: Iterable[CanailleClient] = (),
        subprocess: bool = False,
        token_lifetime: int | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        self.folder = Path(tempfile.mkdtemp(prefix="canaille-"))
        self.log_file = self.folder / "canaille.log"
        self.token_lifetime = token_lifetime
        self._subprocess = subprocess
        self._clients = {client.client_id: client for client in clients}
        self._running: ProcessGroup | _ServingThread | None = None
        self._write_clients()

    @property
    def base_url(self) -> str:
        """The address without a path."""
        return _base_url(self.port)

    @property
    def issuer(self) -> str:
        """The issuer in the discovery document."""
        return self.base_url

    @property
    def token_endpoint(self) -> str:
        """Where tokens are asked for."""
        return f"{self.base_url}/oauth/token"

    def add_client(
        self, client_id: str, secret: str | None = None, *, scope: str = ""
    ) -> CanailleClient:
        """Make a client known from the next request on, with a secret of ours by default."""
        drawn = f"canary-{secrets.token_urlsafe(24)}" if secret is None else secret
        client = CanailleClient(client_id, drawn, scope)
        self._clients[client_id] = client
        self._write_clients()
        return client

    def start(self, timeout: float = START_TIMEOUT) -> None:
        """Start, and return when the discovery document is answered."""
        if self._running is not None:
            raise PeerFailed("this Canaille is running already")
        require_free(self.port)
        self._running = self._launch()
        try:
            self._await_ready(timeout)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it; the clients stay for the next start, the tokens do not."""
        running, self._running = self._running, None
        if running is not None:
            running.terminate()

    def kill(self) -> None:
        """SIGKILL the subprocess; a thread cannot be killed and is stopped."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()

    def restart(self, timeout: float = START_TIMEOUT) -> None:
        """Stop where it runs, and start on the same port with the same clients."""
        self.stop()
        self.start(timeout)

    def close(self) -> None:
        """End it for good and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client_credentials(self, client_id: str, secret: str, **form: str) -> Reply:
        """Ask for a token with the client's id and secret in HTTP Basic, the one way it takes."""
        login = base64.b64encode(f"{quote(client_id)}:{quote(secret)}".encode()).decode()
        fields = {"grant_type": "client_credentials", **form}
        headers = {"Authorization": f"Basic {login}"}
        return request("POST", self.token_endpoint, form=fields, headers=headers)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _clients_file(self) -> Path:
        return self.folder / "clients.json"

    def _write_clients(self) -> None:
        _write_clients(self._clients_file, self._clients.values())

    def _launch(self) -> ProcessGroup | _ServingThread:
        if not self._subprocess:
            return _ServingThread(self.port, self._clients_file, self.token_lifetime)
        module = [sys.executable, "-m", "tests.peers.canaille"]
        options = ["--port", str(self.port), "--clients-file", str(self._clients_file)]
        if self.token_lifetime is not None:
            options += ["--token-lifetime", str(self.token_lifetime)]
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "TMPDIR": str(self.folder),  # killed, it removes nothing itself
        }
        return ProcessGroup([*module, *options], environment, self.log_file)

    def _await_ready(self, timeout: float) -> None:
        def over() -> bool:
            running = self._running
            ended = isinstance(running, ProcessGroup) and running.returncode is not None
            return ended or self._ready()

        if not wait_until(over, timeout, 0.02) or not self._ready():
            raise PeerFailed(f"Canaille did not start; its log ends:\n{tail(self.log_file)}")

    def _ready(self) -> bool:
        try:
            url = f"{self.base_url}/.well-known/openid-configuration"
            return bool(request("GET", url).json()["issuer"] == self.issuer)
        except (OSError, ValueError, KeyError):
            return False


class _ServingThread:
    """A Canaille in a thread of this process."""

    def __init__(self, port: int, clients_file: Path, token_lifetime: int | None) -> None:
        self._before = os.environ.get(_INSECURE)
        self._server = _make_server(port, clients_file, token_lifetime)
        serve = partial(self._server.serve_forever, poll_interval=0.02)
        self._thread = threading.Thread(target=serve, name="canaille")
        self._thread.start()

    def terminate(self) -> None:
        """Stop serving and close the socket."""
        self._server.shutdown()
        self._thread.join(timeout=20)
        self._server.server_close()
        if self._before is None:
            os.environ.pop(_INSECURE, None)
        else:
            os.environ[_INSECURE] = self._before

    kill = terminate


def _base_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"


def _write_clients(path: Path, clients: Iterable[CanailleClient]) -> None:
    """Replace the file whole, readable by its owner only."""
    document = [
        {"client_id": client.client_id, "secret": client.secret, "scope": client.scope}
        for client in clients
    ]
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.replace(path)


def _read_clients(path: Path) -> list[CanailleClient]:
    return [CanailleClient(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def _make_server(port: int, clients_file: Path, token_lifetime: int | None) -> _Server:
    """Return a bound server: a thread for each connection, one request handled at a time."""
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        """Logs no request: the addresses would be the only thing in it."""

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    app = _make_app(port, clients_file, token_lifetime)
    server: _Server = make_server(LOOPBACK, port, app, threaded=True, request_handler=Silent)
    return server


def _make_app(port: int, clients_file: Path, token_lifetime: int | None) -> WsgiApp:
    os.environ[_INSECURE] = "1"  # plain HTTP on loopback; Authlib reads it with each request
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from canaille import create_app  # type: ignore[import-untyped]

        app = create_app(config=_configuration(port, token_lifetime))
    known: set[CanailleClient] = set()
    lock = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with lock:
            for client in _read_clients(clients_file):
                if client not in known:
                    _register(app, client)
                    known.add(client)
            answer: Iterable[bytes] = app(environ, start_response)
            return answer

    return serve


def _register(app: Any, client: CanailleClient) -> None:
    """Put the client in, in place of one of the same id."""
    from canaille.app import models  # type: ignore[import-untyped]
    from canaille.backends import Backend  # type: ignore[import-untyped]

    with app.app_context():
        backend = Backend.instance
        if former := backend.get(models.Client, client_id=client.client_id):
            backend.delete(former)
        entry = models.Client(
            client_id=client.client_id,
            client_secret=client.secret,
            client_name=client.client_id,
            grant_types=["client_credentials"],
            response_types=[],
            scope=client.scope.split(),
            token_endpoint_auth_method="client_secret_basic",
        )
        backend.save(entry)


def _configuration(port: int, token_lifetime: int | None) -> Mapping[str, Any]:
    from joserfc.jwk import JWKRegistry

    key = JWKRegistry.generate_key("RSA", 2048)
    key.ensure_kid()
    configuration: dict[str, Any] = {
        "TESTING": False,
        "ENV_FILE": None,
        "SECRET_KEY": str(uuid.uuid4()),
        "PREFERRED_URL_SCHEME": "http",
        "SERVER_NAME": f"{LOOPBACK}:{port}",
        "CANAILLE": {
            "DATABASE": "memory",
            "JAVASCRIPT": False,
            "LOGGING": {"version": 1, "disable_existing_loggers": False},
        },
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True)]},
    }
    if token_lifetime is not None:
        configuration["OAUTH2_TOKEN_EXPIRES_IN"] = {"client_credentials": token_lifetime}
    return configuration


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.peers.canaille", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--client", help="a client's id; its secret is in --secret-file")
    parser.add_argument("--secret-file", type=Path)
    parser.add_argument("--clients-file", type=Path, help="JSON list of client_id, secret, scope")
    parser.add_argument("--token-lifetime", type=int, help="seconds; ten days if left out")
    options = parser.parse_args(arguments)
    if (options.client is None) != (options.secret_file is None):
        parser.error("--client and --secret-file go together")
    if (options.client is None) == (options.clients_file is None):
        parser.error("give either --client or --clients-file")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        clients_file = options.clients_file or Path(folder) / "clients.json"
        if options.client is not None:
            secret = options.secret_file.read_text(encoding="utf-8").strip()
            _write_clients(clients_file, [CanailleClient(options.client, secret)])
        server = _make_server(options.port, clients_file, options.token_lifetime)
        print(json.dumps({"token_endpoint": f"{_base_url(options.port)}/oauth/token"}), flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
