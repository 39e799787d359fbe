"""gRPC server reflection under the real names, from private descriptor pools.

The generated descriptors carry private packages; here they are rewritten to the names of proto/.
The two credential services cannot share a pool, so each file has its own and a lookup asks them in
turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf import struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio

from openshell_drivers.errors import ConfigError

_PRIVATE_DIRECTORY: Final = "openshell_drivers/_wire/"
#: private package -> (real file, real package)
_REAL: Final = {
    "openshell_drivers.wire.health": ("grpc/health/v1/health.proto", "grpc.health.v1"),
    "openshell_drivers.wire.extension": (
        "openshell/extension/v1/extension.proto",
        "openshell.extension.v1",
    ),
    "openshell_drivers.wire.datamodel": (
        "openshell/datamodel/v1/datamodel.proto",
        "openshell.datamodel.v1",
    ),
    "openshell_drivers.wire.credentials_driver": (
        "openshell/credentials/v1/credentials_driver.proto",
        "openshell.credentials.v1",
    ),
    "openshell_drivers.wire.credential_driver": (
        "openshell/credentials/v1/credential_driver.proto",
        "openshell.credentials.v1",
    ),
    "openshell_drivers.wire.compute_driver": (
        "openshell/compute/v1/compute_driver.proto",
        "openshell.compute.v1",
    ),
}


class _Pools:
    """Several pools that answer a reflection servicer like one."""

    def __init__(self, pools: Sequence[DescriptorPool]) -> None:
        self._pools = pools

    def _ask(self, question: Callable[[DescriptorPool], Any]) -> Any:
        for pool in self._pools:
            try:
                return question(pool)
            except KeyError:
                continue
        raise KeyError("no such descriptor")

    def FindFileByName(self, name: str) -> Any:  # noqa: N802  # the pool's own name
        return self._ask(lambda pool: pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Any:  # noqa: N802  # the pool's own name
        return self._ask(lambda pool: pool.FindFileContainingSymbol(symbol))

    def FindMessageTypeByName(self, name: str) -> Any:  # noqa: N802  # the pool's own name
        return self._ask(lambda pool: pool.FindMessageTypeByName(name))

    def FindExtensionByNumber(self, message: Any, number: int) -> Any:  # noqa: N802  # as above
        return self._ask(lambda pool: pool.FindExtensionByNumber(message, number))

    def FindAllExtensions(self, message: Any) -> Any:  # noqa: N802  # the pool's own name
        return []


def add_reflection(server: aio.Server, services: Sequence[str]) -> None:
    """Let tools ask the server for its services. Raises `ConfigError` without grpcio-reflection."""
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        raise ConfigError(
            "reflection needs the package grpcio-reflection: openshell-drivers[reflection]"
        ) from None
    from openshell_drivers._wire import (
        compute_driver_pb2,
        credential_driver_pb2,
        credentials_driver_pb2,
        datamodel_pb2,
        extension_pb2,
        health_pb2,
    )

    shared = [
        timestamp_pb2.DESCRIPTOR,
        struct_pb2.DESCRIPTOR,
        extension_pb2.DESCRIPTOR,
        datamodel_pb2.DESCRIPTOR,
    ]
    tops = [
        compute_driver_pb2.DESCRIPTOR,
        credentials_driver_pb2.DESCRIPTOR,
        credential_driver_pb2.DESCRIPTOR,
        health_pb2.DESCRIPTOR,
    ]
    pools: Any = _Pools([_pool([*shared, top]) for top in tops])  # a pool by its methods
    names = [*services, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, pool=pools)


def _pool(files: Sequence[Any]) -> DescriptorPool:
    pool = DescriptorPool()
    for file in files:
        pool.Add(_real(FileDescriptorProto.FromString(file.serialized_pb)))
    return pool


def _real(file: FileDescriptorProto) -> FileDescriptorProto:
    if file.package not in _REAL:
        return file
    private = {
        f"{_PRIVATE_DIRECTORY}{package.rpartition('.')[2]}.proto": real
        for package, (real, _) in _REAL.items()
    }
    for index, dependency in enumerate(file.dependency):
        file.dependency[index] = private.get(dependency, dependency)
    file.name, file.package = _REAL[file.package]
    for message in file.message_type:
        _rename_types(message)
    for service in file.service:
        for method in service.method:
            method.input_type = _real_type(method.input_type)
            method.output_type = _real_type(method.output_type)
    return file


def _rename_types(message: Any) -> None:
    for field in message.field:
        if field.HasField("type_name"):
            field.type_name = _real_type(field.type_name)
    for nested in message.nested_type:
        _rename_types(nested)


def _real_type(name: str) -> str:
    for package, (_, real) in _REAL.items():
        if name.startswith(f".{package}."):
            return f".{real}." + name.removeprefix(f".{package}.")
    return name
