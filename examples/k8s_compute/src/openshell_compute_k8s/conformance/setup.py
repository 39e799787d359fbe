"""Makes the backend of one process of the driver: a namespace, and a relay on the way there."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ConfigError

from openshell_compute_k8s.conformance._direct import Answer, Api, ApiRefused, SetupFailed, until

ACCOUNT: Final = "openshell-sandbox"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


class Setup:
    """What is made, in the cluster of ``$KUBECONFIG``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        found = None
        with contextlib.suppress(ConfigError, KeyError, OSError, ValueError):
            found = KubeConfig.from_env().get()
        if found is None or found.user is None:
            raise SetupFailed("$KUBECONFIG names no cluster")
        self._config, self._user, self._cluster = found, found.user, found.cluster
        self._namespace = f"openshell-conformance-{secrets.token_hex(4)}"

    def make(self) -> None:
        """Make it, and return when it can be used."""
        self._write("direct.json", self._direct())
        (self._folder / "namespace").write_text(self._namespace)
        api = Api(self._folder)
        api.do("POST", "/api/v1/namespaces", {"metadata": {"name": self._namespace}})
        accounts = f"/api/v1/namespaces/{self._namespace}/serviceaccounts"
        account = {"metadata": {"name": ACCOUNT}, "automountServiceAccountToken": False}
        api.do("POST", accounts, account)
        self._write("kubeconfig", self._kubeconfig(self._relayed()))
        until(lambda: _is_there(api, f"{accounts}/default"), "no default service account")

    def _relayed(self) -> str:
        server = urlsplit(self._cluster.server)
        port = server.port or (443 if server.scheme == "https" else 80)
        relay = f"{__package__}.relay"
        subprocess.Popen(  # noqa: S603  # this very package
            [sys.executable, "-m", relay, str(self._folder), str(server.hostname), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        told = self._folder / "relay.port"
        until(told.exists, "the relay does not start")
        return f"{server.scheme}://127.0.0.1:{told.read_text()}"

    def _direct(self) -> Answer:
        user = self._user
        return {
            "server": self._cluster.server,
            "token": self._token(),
            "ca": self._ca(),
            "insecure": self._cluster.insecure,
            "cert": self._pem(
                "client-certificate", self._user.client_cert, self._user.client_cert_data
            ),
            "key": self._pem("client-key", user.client_key, user.client_key_data),
        }

    def _token(self) -> str:
        if self._user.token_file:
            return Path(self._config.abs_file(self._user.token_file)).read_text().strip()
        return self._user.token or ""

    def _ca(self) -> str:
        if self._cluster.certificate_auth_data:
            return base64.b64decode(self._cluster.certificate_auth_data).decode()
        if self._cluster.certificate_auth:
            return Path(self._config.abs_file(self._cluster.certificate_auth)).read_text()
        return ""

    def _pem(self, name: str, path: Any, data: str | None) -> str:
        """Give the file with a part of the user's certificate; empty if there is none."""
        if data:
            file = self._folder / name
            file.touch(mode=0o600)
            file.write_bytes(base64.b64decode(data))
            return str(file)
        return str(self._config.abs_file(path)) if path else ""

    def _kubeconfig(self, server: str) -> Answer:
        direct = self._direct()
        loopback = urlsplit(self._cluster.server).hostname in _LOOPBACK
        # Elsewhere the server's certificate does not name the relay.
        ca = base64.b64encode(direct["ca"].encode()).decode() if loopback else ""
        cluster = {
            "server": server,
            "certificate-authority-data": ca,
            "insecure-skip-tls-verify": self._cluster.insecure or not loopback,
        }
        user = {
            "token": direct["token"],
            "client-certificate": direct["cert"],
            "client-key": direct["key"],
        }
        context = {"cluster": "one", "user": "one", "namespace": self._namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "one", "cluster": _set(cluster)}],
            "users": [{"name": "one", "user": _set(user)}],
            "contexts": [{"name": "one", "context": context}],
            "current-context": "one",
        }

    def _write(self, name: str, document: Answer) -> None:
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document))


def _set(words: Answer) -> Answer:
    return {key: value for key, value in words.items() if value}


def _is_there(api: Api, path: str) -> bool:
    try:
        api.do("GET", path)
    except ApiRefused:
        return False
    return True
