"""A bare `grpc.aio` server with a plain handler: ``bare.py SOCKET MESSAGES``.

MESSAGES is the file of the generated messages, loaded by itself so that nothing of the SDK is.
"""

from __future__ import annotations

import asyncio
import importlib.util
import signal
import sys
import time
from typing import Any

import grpc
from grpc import aio


def load(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("messages", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def main(socket: str, messages: str) -> None:
    wire = load(messages)
    token, ends = "t" * 1200, int(time.time() + 3600) * 1000

    async def resolve(request: Any, context: Any) -> Any:
        return wire.ResolveCredentialResponse(token=token, expires_at_ms=ends, token_type="Bearer")

    server = aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "openshell.credentials.v1.CredentialsDriver",
                {
                    "ResolveCredential": grpc.unary_unary_rpc_method_handler(
                        resolve,
                        request_deserializer=wire.ResolveCredentialRequest.FromString,
                        response_serializer=wire.ResolveCredentialResponse.SerializeToString,
                    )
                },
            )
        ]
    )
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await server.stop(0)


asyncio.run(main(*sys.argv[1:]))
