"""The verbs of the conformance profile: what others do to the cluster.

``python -m openshell_compute_k8s.conformance.verbs FOLDER VERB``, JSON in and out. The cluster is
that of ``$KUBECONFIG``; the folder has what belongs to one process of the driver: its kubeconfig,
which leads over a relay of its own to a namespace of its own.
"""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path
from typing import Any, Final

from openshell_compute_k8s.conformance._direct import Api, ApiRefused, SetupFailed, until

Answer = dict[str, Any]
_GROUP: Final = "/apis/agents.x-k8s.io/v1beta1/namespaces"
_ID: Final = "openshell.ai/sandbox-id"
_ACCOUNT: Final = "openshell-sandbox"
_AUDIENCE: Final = "openshell-gateway"
_OUR_KINDS: Final = ("pods", "secrets", "persistentvolumeclaims")


class Refused(Exception):
    """It cannot be done; the text says why."""


class Verbs:
    """What can be done, for the driver process of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    # The backend of a process.

    def setup(self, _: Answer) -> Answer:
        """Make a namespace, and a kubeconfig that leads to it over a relay."""
        from openshell_compute_k8s.conformance.setup import Setup

        Setup(self._folder).make()
        return {}

    def teardown(self, _: Answer) -> Answer:
        """Have the namespace removed, and the relay end."""
        if (self._folder / "direct.json").exists():
            self._do("DELETE", f"/api/v1/namespaces/{self._namespace}", missing=True)
        (self._folder / "relay.json").write_text(json.dumps({"end": True}))
        return {}

    def outage_begin(self, _: Answer) -> Answer:
        """Break the way to the API server."""
        return self._order({"shut": True})

    def outage_end(self, _: Answer) -> Answer:
        """Mend it."""
        return self._order({})

    def slow(self, given: Answer) -> Answer:
        """Hold up what is sent to the API server."""
        return self._order({"delay": given["seconds"]})

    def fast(self, _: Answer) -> Answer:
        """Hold up nothing."""
        return self._order({})

    def _order(self, order: Answer) -> Answer:
        part, seen = self._folder / "relay.part", self._folder / "relay.seen"
        part.write_text(json.dumps(order))
        part.rename(self._folder / "relay.json")
        until(lambda: seen.exists() and json.loads(seen.read_text()) == order, "no relay")
        return {}

    # Sandboxes.

    def remove(self, given: Answer) -> Answer:
        """Remove a sandbox."""
        name = self._sandbox(given["id"])["metadata"]["name"]
        body = {"propagationPolicy": "Foreground"}
        self._do("DELETE", f"{self._sandboxes}/{name}", body)
        chosen = f"{_ID}={given['id']}"
        until(lambda: not self._items(self._sandboxes, chosen), "the sandbox does not go")
        return {}

    def list_resources(self, _: Answer) -> Answer:
        """Name all that bears the driver's labels, and claims made for it."""
        found = [f"sandboxes/{_name(each)}" for each in self._items(self._sandboxes, _ID)]
        for kind in _OUR_KINDS:
            path = f"/api/v1/namespaces/{self._namespace}/{kind}"
            found += [f"{kind}/{_name(each)}" for each in self._items(path)]
        return {"resources": found}

    def foreign(self, _: Answer) -> Answer:
        """Make a sandbox that no gateway has asked for, and one of another gateway."""
        name = f"foreign-{secrets.token_hex(4)}"
        spec = {"podTemplate": {"spec": {"containers": [{"name": "a", "image": "foreign/image"}]}}}
        labels = {
            "openshell.ai/managed-by": "openshell",
            "openshell.ai/gateway-id": "another",
            _ID: name,
        }
        for each, marks in ((name, {}), (f"{name}-theirs", labels)):
            body = {"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox", "spec": spec}
            metadata = {"name": each, "labels": marks}
            self._do("POST", self._sandboxes, {**body, "metadata": metadata})
        return {"id": name}

    def workload(self, given: Answer) -> Answer:
        """Tell what the sandbox's container gets, as its pod has it."""
        container = next(
            each for each in self._pod(given["id"])["spec"]["containers"] if each["name"] == "agent"
        )
        # As the kubelet reads values, in which two dollars stand for one.
        environment = {
            each["name"]: each.get("value", "").replace("$$", "$")
            for each in container.get("env", [])
        }
        process = json.loads(environment["OPENSHELL_MAIN_PROCESS_SPEC"])
        hint = "await_main_process_attachment"
        return {
            "environment": environment,
            "command": process["command"],
            "tty": process["tty"],
            hint: process.get(hint, False),
        }

    def credential(self, given: Answer) -> Answer:
        """Give a service-account token bound to the sandbox's pod, as the kubelet projects it."""
        pod = self._pod(given["id"])["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": pod["name"], "uid": pod["uid"]}
        spec = {"audiences": [_AUDIENCE], "boundObjectRef": bound}
        base = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{_ACCOUNT}/token"
        return {"credential": self._do("POST", base, {"spec": spec})["status"]["token"]}

    def exit_main(self, given: Answer) -> Answer:
        """Have the main process end: kwok's nodes do what this annotation says."""
        name = self._pod(given["id"])["metadata"]["name"]
        change = {"metadata": {"annotations": {"kwok.test/exit": "0"}}}
        self._do("PATCH", f"/api/v1/namespaces/{self._namespace}/pods/{name}", change)
        return {}

    # The API.

    @property
    def _namespace(self) -> str:
        return (self._folder / "namespace").read_text()

    @property
    def _sandboxes(self) -> str:
        return f"{_GROUP}/{self._namespace}/sandboxes"

    def _sandbox(self, sandbox_id: str) -> Answer:
        for each in self._items(self._sandboxes, f"{_ID}={sandbox_id}"):
            return each
        raise Refused("there is no sandbox with this id")

    def _pod(self, sandbox_id: str) -> Answer:
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        found: list[Answer] = []

        def there() -> bool:  # the controller makes it in its own time
            found.extend(self._items(path, f"{_ID}={sandbox_id}"))
            return bool(found)

        try:
            until(there, "the sandbox has no pod")
        except SetupFailed as failed:
            raise Refused(str(failed)) from None
        return found[0]

    def _items(self, path: str, labels: str = "") -> list[Answer]:
        found: list[Answer] = self._do("GET", path, query={"labelSelector": labels})["items"]
        return found

    def _do(
        self,
        method: str,
        path: str,
        body: Answer | None = None,
        *,
        query: dict[str, str] | None = None,
        missing: bool = False,
    ) -> Answer:
        try:
            return Api(self._folder).do(method, path, body, query)
        except ApiRefused as refused:
            if missing and refused.status == 404:
                return {}
            raise Refused(str(refused)) from None


def _name(item: Answer) -> str:
    return str(item["metadata"]["name"])


def main(arguments: list[str]) -> int:
    """Do one verb; the exit status."""
    folder, verb = arguments
    try:
        given = json.loads(sys.stdin.read() or "{}")
        answer = getattr(Verbs(Path(folder)), verb)(given)
    except (Refused, SetupFailed, ApiRefused, OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"verbs: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
