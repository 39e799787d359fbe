"""The bytes of compute RPCs, revision by revision, written out once and never changed.

Each literal is what a gateway of that revision sends or what this SDK answers; the words behind it
say the field. A change of a number or a type cannot go unseen. See test_golden.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from google.protobuf.message import Message

from openshell_drivers._codec import compute_server as codec
from openshell_drivers._wire import compute_driver_pb2 as wire
from openshell_drivers.compute import (
    ComputeCapabilities,
    ComputeResources,
    Condition,
    GpuRequest,
    PlatformEvent,
    ResourceCapabilities,
    Sandbox,
    SandboxRef,
    SandboxSpec,
    SandboxStatus,
    SandboxTemplate,
    StartRequest,
    WorkloadIdentity,
)
from openshell_drivers.secrets import Secret

NOON: Final = datetime(2026, 11, 21, 12, 0, 0, 250_000, tzinfo=UTC)


def data(text: str) -> bytes:
    """Read a literal: hex with comments."""
    return bytes.fromhex(re.sub(r"#.*", "", text))


OLD: Final = SandboxSpec(
    id="id-1",
    name="box",
    template=SandboxTemplate(
        image="i",
        agent_socket_path="/s",
        labels={"t": "a"},
        environment={"A": "a"},
        resources=ComputeResources(
            cpu_request="1", cpu_limit="2", memory_request="1Gi", memory_limit="2Gi"
        ),
        platform_config={"runtime_class_name": "r"},
    ),
    environment={"B": "b"},
    gpu=GpuRequest(device="d"),
    log_level="info",
)
MIDDLE: Final = replace(
    OLD,
    workspace="team",
    template=replace(OLD.template, driver_config={"size": 1.0}),
    gpu=GpuRequest(count=2),
    sandbox_token=Secret("tok"),
    command=("a", "b"),
    tty=True,
)
NEW: Final = replace(
    MIDDLE,
    template=replace(MIDDLE.template, user_namespaces=False),
    await_main_process_attachment=True,
    workload_identity=WorkloadIdentity(user="u", group="g"),
    launch_authentication=Secret("{}"),
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a gateway of some revisions sends, and what the codec makes of it."""

    message: type[Message]
    hex: str
    read: Callable[[Any], Any]
    means: Any


REQUESTS: Final = {
    "create, fork": Request(
        message=wire.CreateSandboxRequest,
        hex="""
        0a 68                                              # 1 sandbox
          0a 04 69642d31                                   # 1 id 'id-1'
          12 03 626f78                                     # 2 name 'box'
          22 5b                                            # 4 spec
            0a 04 696e666f                                 # 1 log_level 'info'
            2a 06                                          # 5 environment
              0a 01 42                                     # 1 key 'B'
              12 01 62                                     # 2 value 'b'
            32 46                                          # 6 template
              0a 01 69                                     # 1 image 'i'
              1a 02 2f73                                   # 3 agent_socket_path '/s'
              22 06                                        # 4 labels
                0a 01 74                                   # 1 key 't'
                12 01 61                                   # 2 value 'a'
              32 06                                        # 6 environment
                0a 01 41                                   # 1 key 'A'
                12 01 61                                   # 2 value 'a'
              52 10                                        # 10 resources
                0a 01 31                                   # 1 cpu_request '1'
                12 01 32                                   # 2 cpu_limit '2'
                1a 03 314769                               # 3 memory_request '1Gi'
                22 03 324769                               # 4 memory_limit '2Gi'
              5a 1b                                        # 11 platform_config
                0a190a1272756e74696d655f636c6173735f6e616d6512031a0172 # {'runtime_class_name': 'r'}
            48 01                                          # 9 gpu True
            52 01 64                                       # 10 gpu_device 'd'
        """,
        read=codec.decode_spec,
        means=OLD,
    ),
    "create, 0.0.111": Request(
        message=wire.CreateSandboxRequest,
        hex="""
        0a 9101                                            # 1 sandbox
          0a 04 69642d31                                   # 1 id 'id-1'
          12 03 626f78                                     # 2 name 'box'
          22 7e                                            # 4 spec
            0a 04 696e666f                                 # 1 log_level 'info'
            2a 06                                          # 5 environment
              0a 01 42                                     # 1 key 'B'
              12 01 62                                     # 2 value 'b'
            32 5b                                          # 6 template
              0a 01 69                                     # 1 image 'i'
              1a 02 2f73                                   # 3 agent_socket_path '/s'
              22 06                                        # 4 labels
                0a 01 74                                   # 1 key 't'
                12 01 61                                   # 2 value 'a'
              32 06                                        # 6 environment
                0a 01 41                                   # 1 key 'A'
                12 01 61                                   # 2 value 'a'
              52 10                                        # 10 resources
                0a 01 31                                   # 1 cpu_request '1'
                12 01 32                                   # 2 cpu_limit '2'
                1a 03 314769                               # 3 memory_request '1Gi'
                22 03 324769                               # 4 memory_limit '2Gi'
              5a 1b                                        # 11 platform_config
                0a190a1272756e74696d655f636c6173735f6e616d6512031a0172 # {'runtime_class_name': 'r'}
              62 13                                        # 12 driver_config
                0a110a0473697a65120911000000000000f03f     # {'size': 1.0}
            4a 04                                          # 9 resource_requirements
              0a 02                                        # 1 gpu
                08 02                                      # 1 count 2
            5a 03 746f6b                                   # 11 sandbox_token 'tok'
            62 01 61                                       # 12 command 'a'
            62 01 62                                       # 12 command 'b'
            68 01                                          # 13 tty True
          32 04 7465616d                                   # 6 workspace 'team'
        """,
        read=codec.decode_spec,
        means=MIDDLE,
    ),
    "create, 0.1.2": Request(
        message=wire.CreateSandboxRequest,
        hex="""
        0a a301                                            # 1 sandbox
          0a 04 69642d31                                   # 1 id 'id-1'
          12 03 626f78                                     # 2 name 'box'
          22 8f01                                          # 4 spec
            0a 04 696e666f                                 # 1 log_level 'info'
            2a 06                                          # 5 environment
              0a 01 42                                     # 1 key 'B'
              12 01 62                                     # 2 value 'b'
            32 5d                                          # 6 template
              0a 01 69                                     # 1 image 'i'
              1a 02 2f73                                   # 3 agent_socket_path '/s'
              22 06                                        # 4 labels
                0a 01 74                                   # 1 key 't'
                12 01 61                                   # 2 value 'a'
              32 06                                        # 6 environment
                0a 01 41                                   # 1 key 'A'
                12 01 61                                   # 2 value 'a'
              52 10                                        # 10 resources
                0a 01 31                                   # 1 cpu_request '1'
                12 01 32                                   # 2 cpu_limit '2'
                1a 03 314769                               # 3 memory_request '1Gi'
                22 03 324769                               # 4 memory_limit '2Gi'
              5a 1b                                        # 11 platform_config
                0a190a1272756e74696d655f636c6173735f6e616d6512031a0172 # {'runtime_class_name': 'r'}
              62 13                                        # 12 driver_config
                0a110a0473697a65120911000000000000f03f     # {'size': 1.0}
              68 00                                        # 13 user_namespaces False
            4a 04                                          # 9 resource_requirements
              0a 02                                        # 1 gpu
                08 02                                      # 1 count 2
            5a 03 746f6b                                   # 11 sandbox_token 'tok'
            62 01 61                                       # 12 command 'a'
            62 01 62                                       # 12 command 'b'
            68 01                                          # 13 tty True
            70 01                                          # 14 await_main_process_attachment True
            7a 06                                          # 15 workload_identity
              0a 01 75                                     # 1 user 'u'
              12 01 67                                     # 2 group 'g'
            8201 02 7b7d                                   # 16 launch_authentication b'{}'
          32 04 7465616d                                   # 6 workspace 'team'
        """,
        read=codec.decode_spec,
        means=NEW,
    ),
    "get": Request(
        message=wire.GetSandboxRequest,
        hex="""
        0a 04 69642d31                                     # 1 sandbox_id 'id-1'
        12 03 626f78                                       # 2 sandbox_name 'box'
        """,
        read=codec.decode_ref,
        means=SandboxRef(id="id-1"),
    ),
    "start, 0.1.2": Request(
        message=wire.StartSandboxRequest,
        hex="""
        0a 04 69642d31                                     # 1 sandbox_id 'id-1'
        12 03 626f78                                       # 2 name 'box'
        1a 02 7b7d                                         # 3 launch_authentication b'{}'
        22 02 6731                                         # 4 generation_id 'g1'
        2a 01 72                                           # 5 expected_runtime_identity 'r'
        """,
        read=codec.decode_start,
        means=StartRequest(
            launch_authentication=Secret("{}"), generation_id="g1", expected_runtime_identity="r"
        ),
    ),
}
UNKNOWN: Final = {
    "varint": "f8 3e 01",  # field 1007
    "fixed64": "f9 3e 0000000000000000",
    "bytes": "fa 3e 03 6e6577",
    "group": "fb 3e 08 01 fc 3e",
    "fixed32": "fd 3e 00000000",
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_compute_request_of_a_revision_is_read(name: str) -> None:
    case = REQUESTS[name]

    assert case.read(case.message.FromString(data(case.hex))) == case.means


@pytest.mark.parametrize("kind", UNKNOWN)
@pytest.mark.parametrize("name", REQUESTS)
def test_a_compute_request_with_a_field_of_the_future_is_read_the_same(
    name: str, kind: str
) -> None:
    case = REQUESTS[name]

    message = case.message.FromString(data(case.hex) + data(UNKNOWN[kind]))

    assert case.read(message) == case.means


STATUS: Final = """
        0a 03 626f78                                       # 1 name (sandbox_name before 0.1) "box"
        12 06 69642d312e31                                 # 2 instance_id "id-1.1"
        2a 42                                              # 5 conditions
          0a 05 5265616479                                 # 1 type "Ready"
          12 04 54727565                                   # 2 status "True"
          1a 07 52756e6e696e67                             # 3 reason "Running"
          22 02 6f6b                                       # 4 message "ok"
          2a 18 323032362d31312d32315431323a30303a30302e3235305a  # 5 last_transition_time
          ca 06 0b                                         # 105 transition_time
            08 c0 8f 86 d8 06                              # 1 seconds 1795262400
            10 80 e5 9a 77                                 # 2 nanos 250000000
"""
SANDBOX: Final = f"""
      0a 04 69642d31                                       # 1 id
      12 03 626f78                                         # 2 name
      2a 51                                                # 5 status
{STATUS}
      32 04 7465616d                                       # 6 workspace "team"
"""
EVENT: Final = """
    1a 3c                                                  # 3 platform_event
      0a 04 69642d31                                       # 1 sandbox_id
      12 34                                                # 2 event
        08 fa 8d e9 ef 9f 34                               # 1 timestamp_ms 1795262400250
        12 01 64                                           # 2 source "d", the driver's name
        1a 06 4e6f726d616c                                 # 3 type "Normal"
        22 06 50756c6c6564                                 # 4 reason "Pulled"
        2a 02 6f6b                                         # 5 message "ok"
        32 06 0a 01 61 12 01 62                            # 6 metadata "a": "b"
        aa 06 0b                                           # 101 event_time
          08 c0 8f 86 d8 06                                # 1 seconds
          10 80 e5 9a 77                                   # 2 nanos
"""
OBSERVED: Final = Sandbox(
    id="id-1",
    name="box",
    workspace="team",
    status=SandboxStatus(
        name="box",
        instance_id="id-1.1",
        conditions=(
            Condition(
                type="Ready", status="True", reason="Running", message="ok", transition_time=NOON
            ),
        ),
    ),
)


def test_an_observation_is_the_same_bytes_in_a_get_a_list_and_a_watch() -> None:
    item = codec.encode_sandbox_item(OBSERVED)
    sandbox = data(SANDBOX)
    length = bytes([len(sandbox)])

    assert item == b"\x0a" + length + sandbox
    assert codec.get_response(item) == item
    assert codec.list_response([item, item]) == item * 2
    assert codec.seen_event(item) == b"\x0a" + bytes([len(item)]) + item


def test_a_deletion_is_written() -> None:
    message = codec.encode_deleted("id-1")

    assert message.SerializeToString() == data("12 06 0a 04 69642d31")  # 2 deleted, 1 sandbox_id


def test_a_platform_event_is_written_with_both_times() -> None:
    event = PlatformEvent(reason="Pulled", message="ok", time=NOON, metadata={"a": "b"})

    raw = codec.encode_happening("id-1", event, "d").SerializeToString(deterministic=True)

    assert raw == data(EVENT)


CAPABILITIES: Final = """
    0a 01 64                                               # 1 driver_name "d"
    12 01 31                                               # 2 driver_version "1"
    1a 01 69                                               # 3 default_image "i"
    30 01                                                  # 6 gateway_manages_lifecycle
    38 01                                                  # 7 supports_sandbox_authentication
    40 01                                                  # 8 driver_reports_runtime_readiness
    4a 0c                                                  # 9 resource_capabilities
      0a 02 08 01                                          # 1 cpu, 1 limit_supported
      12 02 08 01                                          # 2 memory, 1 limit_supported
      1a 02 10 01                                          # 3 gpu, 2 count_selection_supported
    62 54                                                  # 12 extension
      0a 02 08 01                                          # 1 protocol_version, 1 major 1
      12 13 6f70656e7368656c6c2d647269766572732f64         # 2 "openshell-drivers/d"
      1a 01 31                                             # 3 implementation_version
      22 1a 6f70656e7368656c6c2e636f6d707574652e636f6e7472616374  # 4 supported
      2a 1a 6f70656e7368656c6c2e636f6d707574652e636f6e7472616374  # 5 required
    6a 05 76313a7b7d                                       # 13 resource_admission_policy "v1:{}"
"""


def test_capabilities_are_written() -> None:
    message = codec.encode_capabilities(
        ComputeCapabilities(
            driver_name="d",
            driver_version="1",
            default_image="i",
            gateway_manages_lifecycle=True,
            supports_sandbox_authentication=True,
            driver_reports_runtime_readiness=True,
            resources=ResourceCapabilities(cpu_limit=True, memory_limit=True, gpu_count=True),
            resource_admission_policy="v1:{}",
        )
    )

    assert message.SerializeToString(deterministic=True) == data(CAPABILITIES)


def test_empty_compute_messages_are_no_bytes() -> None:
    for kind in (
        wire.ListSandboxesRequest,
        wire.WatchSandboxesRequest,
        wire.ValidateSandboxCreateResponse,
        wire.CreateSandboxResponse,
        wire.StopSandboxResponse,
        wire.StartSandboxResponse,
        wire.DeleteSandboxResponse,
        wire.EnsureWorkspaceResponse,
        wire.DeleteWorkspaceResponse,
    ):
        assert kind().SerializeToString() == b""
    assert codec.list_response([]) == b""
