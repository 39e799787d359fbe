"""The contract's messages, compiled from ``proto/`` when they are first needed.

Each contract has a descriptor pool of its own. So all keep their real names, though the two
credential services share three of them, and none meets what the process has loaded otherwise.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_ROOT: Final = Path(__file__).resolve().parents[3]
_PROTO: Final = _ROOT / "proto"
_CACHE: Final = _ROOT / ".cache" / "bare-proto"
_FILES: Final = {
    "compute": "openshell/compute/v1/compute_driver.proto",
    "store": "openshell/credentials/v1/credential_driver.proto",
    "named": "openshell/credentials/v1/credentials_driver.proto",
}
_SERVICES: Final = {
    "compute": "openshell.compute.v1.ComputeDriver",
    "store": "openshell.credentials.v1.CredentialDriver",
    "named": "openshell.credentials.v1.CredentialsDriver",
}


class Schema:
    """One contract: its service, and its messages as attributes."""

    def __init__(self, key: str) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        found = descriptor_pb2.FileDescriptorSet.FromString(_compiled(key).read_bytes())
        for file in found.file:
            self._pool.AddSerializedFile(file.SerializeToString())
        self.service = self._pool.FindServiceByName(_SERVICES[key])

    @property
    def service_name(self) -> str:
        """The service's full name, as it stands in the path of a call."""
        return str(self.service.full_name)

    def __getattr__(self, name: str) -> Any:
        package = str(self.service.full_name).rpartition(".")[0]
        message = self.named(f"{package}.{name}")
        setattr(self, name, message)
        return message

    def named(self, full_name: str) -> Any:
        """The class of any message that the contract's file can see."""
        try:
            found = self._pool.FindMessageTypeByName(full_name)
        except KeyError:
            raise AttributeError(full_name) from None
        return message_factory.GetMessageClass(found)


@cache
def schema(key: str) -> Schema:
    """Give ``compute``, ``store`` or ``named``, one for the process."""
    return Schema(key)


def _compiled(key: str) -> Path:
    folder = _CACHE / _digest()
    if not folder.is_dir():
        _compile(folder)
    return folder / f"{key}.binpb"


def _digest() -> str:
    texts = hashlib.sha256()
    for path in sorted(_PROTO.rglob("*.proto")):
        texts.update(path.relative_to(_PROTO).as_posix().encode() + b"\0" + path.read_bytes())
    return texts.hexdigest()[:32]


def _compile(folder: Path) -> None:
    _CACHE.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="making-", dir=_CACHE))
    try:
        for key, source in _FILES.items():
            _protoc(source, made / f"{key}.binpb")
        # Whole or not at all: several processes of a test run may begin at once.
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _protoc(source: str, target: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{_PROTO}", "--include_imports"]
    subprocess.run([*command, f"--descriptor_set_out={target}", source], check=True)
