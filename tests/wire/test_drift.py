"""proto/ says what proto/revisions.toml says, and the generated code says it too."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from openshell_drivers._revisions import Field, revisions
from tests.wire import schemas

FILES: Final = {
    "extension": "openshell/extension/v1/extension.proto",
    "datamodel": "openshell/datamodel/v1/datamodel.proto",
    "credentials_driver": "openshell/credentials/v1/credentials_driver.proto",
    "credential_driver": "openshell/credentials/v1/credential_driver.proto",
    "compute_driver": "openshell/compute/v1/compute_driver.proto",
}
#: (revision, message, number) -> the superset's type, where the revision has another. The second
#: is the same bytes; the first is the number that was used twice, so it is not marked there.
OTHER_TYPE: Final = {
    ("fork-mvp", "DriverSandboxSpec", 9): "ResourceRequirements",
    ("0.1.2", "DriverSandboxSpec", 7): "bytes",
    ("0.1-latest", "DriverSandboxSpec", 7): "bytes",
}
REUSED: Final = ("fork-mvp", "DriverSandboxSpec", 9)
_SCALARS: Final = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
}
_MESSAGE_TYPE, _SERVICE, _NESTED = 4, 6, 2  # numbers in FileDescriptorProto and DescriptorProto


class Superset:
    """One file of proto/ under its real names, with its comments."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self.messages = {m.name: {f.number: f for f in m.field} for m in file.message_type}
        self.rpcs = {rpc.name: rpc for service in file.service for rpc in service.method}
        self._comments = {
            tuple(place.path): place.trailing_comments.strip()
            for place in file.source_code_info.location
        }

    def field_comment(self, message: str, number: int) -> str:
        at = [m.name for m in self.file.message_type].index(message)
        fields = [f.number for f in self.file.message_type[at].field]
        return self._comments[_MESSAGE_TYPE, at, _NESTED, fields.index(number)]

    def rpc_comment(self, name: str) -> str:
        return self._comments[_SERVICE, 0, 2, list(self.rpcs).index(name)]

    def type_of(self, message: str, number: int) -> str:
        """Spell a field's type as it stands in a proto."""
        field = self.messages[message][number]
        if field.type != FieldDescriptorProto.TYPE_MESSAGE:
            word = _SCALARS[field.type]
        else:
            word = field.type_name.removeprefix(f".{self.file.package}.").removeprefix(".")
        kind = next(m for m in self.file.message_type if m.name == message)
        for entry in kind.nested_type:
            if entry.options.map_entry and word == f"{message}.{entry.name}":
                return f"map<{_SCALARS[entry.field[0].type]}, {_SCALARS[entry.field[1].type]}>"
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"repeated {word}"
        return f"optional {word}" if field.proto3_optional else word

    def oneof_of(self, message: str, number: int) -> str:
        field = self.messages[message][number]
        if not field.HasField("oneof_index") or field.proto3_optional:
            return ""
        kind = next(m for m in self.file.message_type if m.name == message)
        return kind.oneof_decl[field.oneof_index].name


@pytest.fixture(scope="module")
def supersets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Superset]:
    found = {}
    for key, source in FILES.items():
        target = tmp_path_factory.mktemp("descriptors") / "set"
        files = FileDescriptorSet.FromString(schemas.compile_descriptors(source, target)).file
        found[key] = Superset(next(file for file in files if file.name == source))
    return found


@cache
def published() -> dict[tuple[str, str, int], dict[str, Field]]:
    """Give every field that some revision has: (file, message, number) -> revision -> field."""
    found: dict[tuple[str, str, int], dict[str, Field]] = {}
    for revision in revisions().values():
        for key, contract in revision.contracts.items():
            for message, fields in contract.messages.items():
                for number, field in fields.items():
                    found.setdefault((key, message, number), {})[revision.name] = field
    return found


@cache
def published_rpcs() -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    for revision in revisions().values():
        for key, contract in revision.contracts.items():
            for name in contract.rpcs:
                found.setdefault((key, name), set()).add(revision.name)
    return found


def marks(names: Iterator[str] | set[str]) -> set[str]:
    return {revisions()[name].mark for name in names}


def said(comment: str) -> set[str]:
    """Read the marks at the beginning of a comment."""
    return set(comment.partition(";")[0].split())


def test_files_of_proto_are_all_under_test() -> None:
    there = {
        str(p.relative_to(schemas.ROOT / "proto")) for p in schemas.ROOT.glob("proto/**/*.proto")
    }
    assert there == {*FILES.values(), "grpc/health/v1/health.proto"}


def test_every_field_of_the_superset_is_in_a_revision(supersets: dict[str, Superset]) -> None:
    there = {
        (key, message, number)
        for key, superset in supersets.items()
        for message, fields in superset.messages.items()
        for number in fields
    }
    assert there == set(published())


def test_every_message_of_the_superset_is_in_a_revision(supersets: dict[str, Superset]) -> None:
    there = {(key, name) for key, superset in supersets.items() for name in superset.messages}
    assert there == {
        (key, message)
        for revision in revisions().values()
        for key, contract in revision.contracts.items()
        for message in contract.messages
    }


def test_every_rpc_of_the_superset_is_in_a_revision(supersets: dict[str, Superset]) -> None:
    there = {(key, name) for key, superset in supersets.items() for name in superset.rpcs}
    assert there == set(published_rpcs())


def test_a_field_has_the_type_and_group_that_its_revisions_publish(
    supersets: dict[str, Superset],
) -> None:
    for (key, message, number), by_revision in published().items():
        for revision, field in by_revision.items():
            place = (revision, message, number)
            assert supersets[key].type_of(message, number) == OTHER_TYPE.get(place, field.type)
            assert supersets[key].oneof_of(message, number) == field.oneof, place


def test_a_known_difference_in_type_is_one() -> None:
    for (revision, message, number), ours in OTHER_TYPE.items():
        fields = revisions()[revision].contracts["compute_driver"].messages[message]
        assert fields[number].type != ours


def test_the_comment_behind_a_field_names_the_lines_that_have_it(
    supersets: dict[str, Superset],
) -> None:
    for (key, message, number), by_revision in published().items():
        having = {name for name in by_revision if (name, message, number) != REUSED}
        comment = supersets[key].field_comment(message, number)
        assert said(comment) == marks(having), (message, number, comment)


def test_the_comment_behind_an_rpc_names_the_lines_that_have_it(
    supersets: dict[str, Superset],
) -> None:
    for (key, name), having in published_rpcs().items():
        assert said(supersets[key].rpc_comment(name)) == marks(having), name


def test_a_line_that_calls_a_field_otherwise_is_named_in_its_comment(
    supersets: dict[str, Superset],
) -> None:
    for (key, message, number), by_revision in published().items():
        ours = supersets[key].messages[message][number].name
        other = {f.name: set[str]() for f in by_revision.values() if f.name != ours}
        for revision, field in by_revision.items():
            if field.name != ours and (revision, message, number) != REUSED:
                other[field.name].add(revisions()[revision].mark)
        comment = supersets[key].field_comment(message, number)
        for name, lines in other.items():
            if lines:
                called = re.search(rf"called {name} in (\w(?: and \w)*)", comment)
                assert called is not None, (message, number)
                assert set(called.group(1).split(" and ")) == lines
            else:
                assert f'"{name}"' in comment


def test_an_rpc_takes_and_gives_what_its_revisions_publish(supersets: dict[str, Superset]) -> None:
    for revision in revisions().values():
        for key, contract in revision.contracts.items():
            for rpc in contract.rpcs.values():
                ours = supersets[key].rpcs[rpc.name]
                package = f".{contract.package}."
                assert ours.input_type == package + rpc.request
                assert ours.output_type == package + rpc.response
                assert ours.server_streaming is rpc.stream
                assert not ours.client_streaming


def test_generated_messages_have_the_superset_s_numbers_names_and_types(
    supersets: dict[str, Superset],
) -> None:
    for key, superset in supersets.items():
        module: Any = importlib.import_module(f"openshell_drivers._wire.{key}_pb2")
        generated = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        assert [_shape(m) for m in generated.message_type] == [
            _shape(m) for m in superset.file.message_type
        ]


def _shape(message: Any) -> tuple[Any, ...]:
    """Describe a message without the package of anything it holds."""
    fields = [
        (f.number, f.name, f.type, f.label, f.proto3_optional, f.type_name.rpartition(".")[2])
        for f in message.field
    ]
    return message.name, fields, [_shape(nested) for nested in message.nested_type]


def test_services_are_served_under_the_published_names() -> None:
    from openshell_drivers._services import names

    published_names = {
        f"{contract.package}.{contract.service}"
        for revision in revisions().values()
        for contract in revision.contracts.values()
        if contract.service
    }
    assert published_names == {names.CREDENTIALS, names.CREDENTIAL_STORE, names.COMPUTE}


@pytest.mark.parametrize("name", list(revisions()))
def test_a_revision_s_schema_compiles(name: str, tmp_path: Path) -> None:
    schemas.write(name, tmp_path)

    schemas.compile_python(tmp_path)

    for key in revisions()[name].contracts:
        assert (tmp_path / f"{key}_pb2.py").exists()


def test_only_0_1_gateways_shake_hands_and_only_the_latest_offers_launch_authentication() -> None:
    offers = {name: revision.handshake.get("compute") for name, revision in revisions().items()}
    contract = "openshell.compute.contract"
    launch = "openshell.compute.launch-authentication"
    assert offers == {
        "fork-mvp": None,
        "0.0.111": None,
        "0.1.2": (contract,),
        "0.1-latest": (contract, launch),
    }


def test_no_field_is_known_to_differ_between_0_1_2_and_the_latest() -> None:
    assert revisions()["0.1-latest"].contracts == revisions()["0.1.2"].contracts
