"""Each revision's own schema, written out from proto/revisions.toml and compiled by protoc.

Nothing of the superset goes into it: names, numbers and types are the revision's, packages and
service names the real ones, file names those it publishes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from openshell_drivers._revisions import Contract, Field, Revision, revisions

ROOT: Final = Path(__file__).resolve().parents[2]
_GOOGLE: Final = {
    "google.protobuf.Struct": "google/protobuf/struct.proto",
    "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
}
_POLICY: Final = """\
syntax = "proto3";
package openshell.sandbox.v1;
message SandboxPolicy {}
"""


def write(revision: str, folder: Path) -> None:
    """Write every proto file of a revision."""
    folder.mkdir(parents=True, exist_ok=True)
    known = revisions()[revision]
    for key, contract in known.contracts.items():
        (folder / f"{key}.proto").write_text(render(known, contract))
    (folder / "sandbox.proto").write_text(_POLICY)  # imported by compute of 0.1.x, never looked at


def render(revision: Revision, contract: Contract) -> str:
    """Write one proto file."""
    lines = ['syntax = "proto3";', f"package {contract.package};"]
    lines += [f'import "{name}";' for name in sorted(_imports(revision, contract))]
    if contract.service:
        lines.append(f"service {contract.service} {{")
        for rpc in contract.rpcs.values():
            stream = "stream " if rpc.stream else ""
            lines.append(f"  rpc {rpc.name}({rpc.request}) returns ({stream}{rpc.response});")
        lines.append("}")
    for name, fields in contract.messages.items():
        lines += [f"message {name} {{", *_fields(list(fields.values())), "}"]
    return "\n".join(lines) + "\n"


def _fields(fields: Sequence[Field]) -> Iterator[str]:
    groups = dict.fromkeys(field.oneof for field in fields)
    for group in groups:
        if group:
            yield f"  oneof {group} {{"
        yield from (f"  {f.type} {f.name} = {f.number};" for f in fields if f.oneof == group)
        if group:
            yield "  }"


def _imports(revision: Revision, contract: Contract) -> set[str]:
    homes = {other.package: f"{key}.proto" for key, other in revision.contracts.items()}
    homes["openshell.sandbox.v1"] = "sandbox.proto"
    held = {field.message for fields in contract.messages.values() for field in fields.values()}
    far = {name for name in held if "." in name}
    return {_GOOGLE.get(name) or homes[name.rpartition(".")[0]] for name in far}


def compile_python(folder: Path) -> None:
    """Make modules and stubs of all proto files in a folder, there."""
    _protoc(
        *(f"-I{folder}", f"--python_out={folder}", f"--grpc_python_out={folder}"),
        *sorted(path.name for path in folder.glob("*.proto")),
    )


def compile_descriptors(source: str, target: Path) -> bytes:
    """Compile one file of proto/ under its real name, with its imports and comments."""
    _protoc(
        *(f"-I{ROOT / 'proto'}", "--include_imports", "--include_source_info"),
        *(f"--descriptor_set_out={target}", source),
    )
    return target.read_bytes()


def _protoc(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
