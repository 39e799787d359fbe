"""What a client of the running cluster needs: kubeconfigs, tokens, kubectl, and its REST API."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.peers.processes import PeerFailed

CLUSTER_NAME = "peer"
AUDIT_LOG = "audit.log"
_JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server's refusal: `status` is the HTTP status, `reason` and the rest its words."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {body.get('reason', '')}: {body.get('message', '')}")
        self.status = status
        self.reason: str = body.get("reason", "")
        self.body = body


class Access:
    """A client with all rights, for a cluster that somebody else started and will end."""

    def __init__(self, server: str, token: str, folder: Path, binaries: Path) -> None:
        self.server = server
        self.folder = folder
        self.binaries = binaries
        self._token = token

    def save(self, path: Path) -> None:
        """Write down how to get in, for `load` in another process; for the owner's eyes only."""
        told = {"server": self.server, "token": self._token}
        told |= {"folder": str(self.folder), "binaries": str(self.binaries)}
        _write_private(path, json.dumps(told))

    @classmethod
    def load(cls, path: Path) -> Access:
        """Return the access that `save` wrote."""
        told = json.loads(path.read_text(encoding="utf-8"))
        return Access(told["server"], told["token"], Path(told["folder"]), Path(told["binaries"]))

    @property
    def ca_file(self) -> Path:
        """The PEM file of the CA that the server's certificate comes from."""
        return self.folder / "ca.pem"

    @cached_property
    def kubeconfig(self) -> Path:
        """A kubeconfig of an administrator (group system:masters)."""
        return self.kubeconfig_for()

    def kubeconfig_for(
        self,
        user: str | None = None,
        token: str | None = None,
        namespace: str | None = None,
        groups: Sequence[str] = (),
    ) -> Path:
        """Write a kubeconfig: with the token, as that user by impersonation, or as administrator.

        A service account is `system:serviceaccount:NAMESPACE:NAME`, and gets its groups by itself.
        """
        login: dict[str, Any] = {"token": token or self._token}
        if user is not None:
            login |= {"as": user, **({"as-groups": list(groups)} if groups else {})}
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        cluster = {"server": self.server, "certificate-authority-data": authority}
        context = {"cluster": CLUSTER_NAME, "user": CLUSTER_NAME}
        if namespace is not None:
            context["namespace"] = namespace
        # JSON is YAML, and needs no library.
        text = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CLUSTER_NAME, "cluster": cluster}],
            "users": [{"name": CLUSTER_NAME, "user": login}],
            "contexts": [{"name": CLUSTER_NAME, "context": context}],
            "current-context": CLUSTER_NAME,
        }
        path = self.folder / f"kubeconfig-{uuid.uuid4().hex[:12]}.yaml"
        _write_private(path, json.dumps(text, indent=2))
        return path

    def service_account_token(
        self,
        namespace: str,
        name: str,
        audiences: Sequence[str] = (),
        pod: str | None = None,
        expiration: int = 600,
    ) -> str:
        """Ask for a token of the service account, bound to the pod where one is named.

        The server gives none for less than 600 seconds. Without audiences it is for the server.
        """
        spec: dict[str, Any] = {"audiences": list(audiences), "expirationSeconds": expiration}
        if pod is not None:
            uid = self.api("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")["metadata"]["uid"]
            bound = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
            spec["boundObjectRef"] = bound
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        token: str = self.api("POST", path, body)["status"]["token"]
        return token

    def kubectl(self, *args: str, input: str | None = None, timeout: float = 60) -> str:  # noqa: A002
        """Run kubectl as administrator and return what it printed; PeerFailed where it failed."""
        environment = {
            "KUBECONFIG": str(self.kubeconfig),
            "HOME": str(self.folder),
            "PATH": os.environ.get("PATH", os.defpath),
        }
        done = subprocess.run(
            [str(self.binaries / "kubectl"), *args],
            env=environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise PeerFailed(f"kubectl {' '.join(args)}: {done.stderr}{done.stdout}")
        return done.stdout

    def api(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, str | int] | None = None,
        content_type: str | None = None,
        accept: str = _JSON,
        timeout: float = 30,
    ) -> dict[str, Any]:
        """Send one request as administrator and return the JSON answer; ApiError for a refusal.

        A PATCH is a JSON merge patch unless `content_type` says otherwise.
        """
        kind = content_type or (MERGE_PATCH if method == "PATCH" else _JSON)
        answer = self._http.request(
            method,
            path,
            params=dict(query or {}),
            content=None if body is None else json.dumps(body),
            headers={"Content-Type": kind, "Accept": accept},
            timeout=timeout,
        )
        try:
            told = answer.json()
        except ValueError:
            told = {"message": answer.text}
        if answer.is_error:
            raise ApiError(answer.status_code, told)
        return dict(told)

    def remove(self, path: str) -> None:
        """Delete an object that may be gone already, or be changed at this moment while it goes."""
        try:
            self.api("DELETE", path)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    def watch(self, path: str, version: str, timeout: int = 1) -> list[dict[str, Any]]:
        """Return what a watch from that resource version says within so many seconds."""
        asked = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(timeout)}
        answer = self._http.get(path, params=asked, timeout=timeout + 30)
        answer.raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def audited(self, namespace: str, name: str) -> list[dict[str, Any]]:
        """Return what the service account has asked for so far, from the audit log.

        A request is there as soon as it is answered, a watch also when it has ended.
        """
        user = f"system:serviceaccount:{namespace}:{name}"
        lines = (self.folder / AUDIT_LOG).read_text(encoding="utf-8").splitlines(keepends=True)
        whole = (json.loads(line) for line in lines if user in line and line.endswith("\n"))
        return [event for event in whole if event["user"]["username"] == user]

    @cached_property
    def _http(self) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=str(self.ca_file))
        headers = {"Authorization": f"Bearer {self._token}"}
        return httpx.Client(base_url=self.server, verify=trusted, headers=headers, trust_env=False)

    def disconnect(self) -> None:
        """Close the connections that requests left open; the next request makes a new one."""
        client = self.__dict__.pop("_http", None)
        if isinstance(client, httpx.Client):
            client.close()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
