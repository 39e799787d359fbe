"""`Caller`: a plain client of all three services, for tests."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc

from tests.conformance.bare.protos import schema
from tests.fakes.process import PATIENCE, eventually


class Caller:
    """Calls a service by the contract's own names."""

    def __init__(self, path: Path) -> None:
        self.channel = grpc.insecure_channel(
            f"unix:{path}", options=[("grpc.default_authority", "[::]:50051")]
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def call(self, key: str, rpc: str, **fields: Any) -> Any:
        """Call ``compute``, ``named`` or ``store``; raises `grpc.RpcError`."""
        messages = schema(key)
        method = messages.service.methods_by_name[rpc]
        request = messages.named(method.input_type.full_name)(**fields)
        call: Any = self.channel.unary_unary(
            f"/{messages.service_name}/{rpc}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.named(method.output_type.full_name).FromString,
        )
        return call(request, timeout=PATIENCE)

    def code(self, key: str, rpc: str, **fields: Any) -> str:
        """The status alone."""
        try:
            self.call(key, rpc, **fields)
        except grpc.RpcError as error:
            found: str = error.code().name
            return found
        return "OK"

    def create(self, name: str = "one", image: str = "bare/default", **spec: Any) -> str:
        sandbox_id = str(uuid.uuid4())
        spec["template"] = {"image": image, **spec.get("template", {})}
        sandbox = {"id": sandbox_id, "name": name, "workspace": "w", "spec": spec}
        self.call("compute", "CreateSandbox", sandbox=sandbox)
        return sandbox_id

    def conditions(self, sandbox_id: str) -> list[tuple[str, str, str]]:
        found = self.call("compute", "GetSandbox", sandbox_id=sandbox_id).sandbox
        return [(each.type, each.status, each.reason) for each in found.status.conditions]

    def comes_to(self, sandbox_id: str, *condition: str) -> None:
        assert eventually(lambda: tuple(condition) in self.conditions(sandbox_id))

    def gone(self, sandbox_id: str) -> bool:
        return self.code("compute", "GetSandbox", sandbox_id=sandbox_id) == "NOT_FOUND"

    def watch(self) -> Any:
        messages = schema("compute")
        call: Any = self.channel.unary_stream(
            f"/{messages.service_name}/WatchSandboxes",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.WatchSandboxesEvent.FromString,
        )
        return call(messages.WatchSandboxesRequest())
