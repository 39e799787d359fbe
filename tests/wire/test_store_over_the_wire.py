"""The CREDU and CREDU01 clauses, at the socket, against a driver that only keeps values."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from openshell_drivers._wire import credential_driver_pb2 as wire
from openshell_drivers._wire.datamodel_pb2 import CredentialHandle
from openshell_drivers.errors import (
    Aborted,
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    DriverError,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from tests.wire.gateway import STORE, Gateway, Item, refusal
from tests.wire.vault import Vault

REFRESH = "openshell.refresh." + "5e" * 32
ALL_CODES = [
    *(Aborted, AlreadyExists, DataLoss, DeadlineExceeded, FailedPrecondition, NotFound),
    *(PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable),
]


async def store_many(gateway: Gateway, count: int) -> list[Item]:
    return [await gateway.put(Item(key=f"KEY_{n}"), f"value-{n}") for n in range(count)]


# Batches (CREDU-RES-01, CREDU-RES-02, CREDU-RES-04)


@pytest.mark.parametrize("count", [0, 1, 32, 100])
async def test_every_request_id_of_a_batch_is_answered_once(gateway: Gateway, count: int) -> None:
    items = await store_many(gateway, count)
    ids = [f"id {n} \u00e9" for n in range(count)]

    response = await gateway.resolve(items[::-1], ids)

    answers = {each.request_id: each.value for each in response.credentials}
    assert len(response.credentials) == count
    assert answers == {ids[n]: f"value-{count - 1 - n}" for n in range(count)}


async def test_one_value_asked_for_twice_in_a_batch_is_answered_twice(gateway: Gateway) -> None:
    item = await gateway.put(Item(), "v")

    response = await gateway.resolve([item, item])

    assert [each.value for each in response.credentials] == ["v", "v"]


@pytest.mark.parametrize("ids", [["a", "a"], ["", "b"]])
async def test_a_request_id_that_is_empty_or_occurs_twice_is_refused(
    gateway: Gateway, ids: list[str]
) -> None:
    item = await gateway.put(Item(), "v")

    code, _ = await refusal(gateway.resolve([item, item], ids))

    assert code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("kind", ALL_CODES)
async def test_one_bad_item_fails_its_batch_with_its_code(
    gateway: Gateway, vault: Vault, kind: type[DriverError]
) -> None:
    items = await store_many(gateway, 8)
    vault.faults["KEY_5"] = kind("cannot give KEY_5")

    code, message = await refusal(gateway.resolve(items))

    assert (code, message) == (kind.code, "cannot give KEY_5")


async def test_an_unexpected_error_of_one_item_is_internal_and_says_nothing(
    gateway: Gateway, vault: Vault
) -> None:
    items = await store_many(gateway, 3)
    vault.mistakes["KEY_1"] = ValueError("s3cret of KEY_1")

    code, message = await refusal(gateway.resolve(items))

    assert code == "INTERNAL"
    assert "s3cret" not in message


async def test_a_missing_item_is_not_found_and_never_an_empty_value(gateway: Gateway) -> None:
    items = await store_many(gateway, 3)
    await gateway.delete(items[1])

    code, _ = await refusal(gateway.resolve(items))

    assert code == "NOT_FOUND"


async def test_items_of_a_batch_are_resolved_together(gateway: Gateway, vault: Vault) -> None:
    items = await store_many(gateway, 32)
    vault.pause = 0.2

    began = time.monotonic()
    await gateway.resolve(items)

    assert time.monotonic() - began < 1.5  # one after the other: 6.4 s


# What is stored (CREDU-STORE-01 .. CREDU-STORE-06)


@pytest.mark.parametrize("key", ["API_TOKEN", REFRESH])
@pytest.mark.parametrize(
    "value",
    ["", " ", " padded\t", "line\nline\r\n\n", "grün 秘密 🔑", "\x00\x01\x7f", "x" * 2**20],
    ids=["empty", "blank", "padded", "lines", "non-ascii", "control", "1 MiB"],
)
async def test_a_value_comes_back_as_it_was_stored(gateway: Gateway, key: str, value: str) -> None:
    item = await gateway.put(Item(key=key), value)

    assert await gateway.value(item) == value


async def test_an_overwrite_is_seen_under_the_old_handle(gateway: Gateway) -> None:
    item = await gateway.put(Item(), "old")

    again = await gateway.put(item, "new")

    assert again.handle == item.handle
    assert await gateway.value(item) == "new"


async def test_an_overwrite_brings_a_vanished_value_back_under_its_handle(
    gateway: Gateway, vault: Vault
) -> None:
    item = await gateway.put(Item(), "old")
    vault.values.clear()

    await gateway.put(item, "new")

    assert await gateway.value(item) == "new"


async def test_the_same_owner_stored_twice_gives_two_values(gateway: Gateway) -> None:
    first = await gateway.put(Item(), "one")
    second = await gateway.put(Item(), "two")

    assert first.handle != second.handle
    assert [await gateway.value(each) for each in (first, second)] == ["one", "two"]


async def test_a_staged_value_lives_beside_the_committed_one(
    gateway: Gateway, vault: Vault
) -> None:
    committed = await gateway.put(Item(key=REFRESH), "committed")
    staged = await gateway.put(Item(key=REFRESH), "staged", object_id="0b5e-refresh-1")

    assert await gateway.value(committed) == "committed"
    assert await gateway.value(staged) == "staged"
    await gateway.delete(committed)
    assert await gateway.value(staged) == "staged"
    assert [slot.object_id for slot in vault.stored] == ["0b5e", "0b5e-refresh-1"]


async def test_an_overwrite_names_the_object_by_the_provider_id_too(
    gateway: Gateway, vault: Vault
) -> None:
    item = await gateway.put(Item(), "old")

    await gateway.put(item, "new")

    assert [slot.object_id for slot in vault.stored] == ["0b5e", "0b5e"]


@pytest.mark.parametrize(
    "other", [{"workspace": "team2"}, {"provider_id": "77aa"}, {"provider": "gitlab"}]
)
async def test_owners_that_differ_in_one_thing_do_not_collide(
    gateway: Gateway, other: dict[str, str]
) -> None:
    one = await gateway.put(Item(), "one")
    two = await gateway.put(replace(Item(), **other), "two")

    assert [await gateway.value(each) for each in (one, two)] == ["one", "two"]


@pytest.mark.parametrize("missing", ["provider", "key"])
async def test_a_store_without_provider_or_key_is_refused(
    gateway: Gateway, vault: Vault, missing: str
) -> None:
    code, _ = await refusal(gateway.put(replace(Item(), **{missing: ""}), "v"))

    assert code == "INVALID_ARGUMENT"
    assert vault.values == {}


async def test_empty_workspace_and_provider_id_are_an_owner_like_any(gateway: Gateway) -> None:
    item = await gateway.put(Item(workspace="", provider_id=""), "v")

    assert await gateway.value(item) == "v"


@pytest.mark.parametrize("kind", ALL_CODES)
async def test_a_store_s_error_passes_and_leaves_nothing(
    gateway: Gateway, vault: Vault, kind: type[DriverError]
) -> None:
    vault.faults["API_TOKEN"] = kind("cannot keep it")
    undone = vault.delete_credential

    async def undo_although_faulty(slot: object) -> None:
        vault.faults.clear()
        await undone(slot)  # type: ignore[arg-type]  # the test passes it on

    vault.delete_credential = undo_although_faulty  # type: ignore[method-assign]

    code, message = await refusal(gateway.put(Item(), "v"))

    assert (code, message) == (kind.code, "cannot keep it")
    assert vault.values == {}


async def test_the_first_error_is_answered_when_undoing_fails_too(
    gateway: Gateway, vault: Vault
) -> None:
    vault.faults["API_TOKEN"] = Unavailable("cannot keep it, nor remove it")

    code, message = await refusal(gateway.put(Item(), "v"))

    assert (code, message) == ("UNAVAILABLE", "cannot keep it, nor remove it")
    assert vault.deleted == [vault.stored[0].id]


async def test_a_failed_overwrite_does_not_remove_what_was_there(
    gateway: Gateway, vault: Vault
) -> None:
    item = await gateway.put(Item(), "old")
    vault.faults["API_TOKEN"] = Unavailable("not now")

    await refusal(gateway.put(item, "new"))

    assert vault.deleted == []


async def test_a_store_that_is_cancelled_leaves_nothing(gateway: Gateway, vault: Vault) -> None:
    vault.pause = 30
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.put, Item(), "v")
            await vault.entered.wait()
            tasks.cancel_scope.cancel()
        await vault.removed.wait()

    assert vault.deleted == [vault.stored[0].id]
    assert vault.values == {}


async def test_a_store_past_its_deadline_leaves_nothing(gateway: Gateway, vault: Vault) -> None:
    vault.pause = 30
    call = gateway.channel.unary_unary(
        STORE + "StoreCredential",
        request_serializer=wire.StoreCredentialRequest.SerializeToString,
        response_deserializer=wire.StoreCredentialResponse.FromString,
    )

    request = wire.StoreCredentialRequest(provider="p", credential_key="K", value="v")
    code, _ = await refusal(call(request, timeout=0.2))

    assert code == "DEADLINE_EXCEEDED"
    with anyio.fail_after(10):
        await vault.removed.wait()
    assert vault.values == {}


# Ends (CREDU-RES-03, CREDU01-EXP-01 .. CREDU01-EXP-03)


async def test_an_end_is_sent_in_both_forms_as_one_instant(gateway: Gateway) -> None:
    item = await gateway.put(Item(key="ENDS"), "v")

    answer = (await gateway.resolve([item])).credentials[0]

    assert answer.expires_at_ms == 4_102_444_800_123
    assert answer.expiration_time.ToMilliseconds() == 4_102_444_800_123
    assert answer.expiration_time.nanos == 123_000_000


async def test_a_value_that_never_ends_has_neither_form(gateway: Gateway) -> None:
    item = await gateway.put(Item(key="FOREVER"), "v")

    answer = (await gateway.resolve([item])).credentials[0]

    assert answer.expires_at_ms == 0
    assert not answer.HasField("expiration_time")


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(seconds=1), timedelta(days=40_000)])
async def test_a_value_that_has_ended_is_never_sent(
    gateway: Gateway, vault: Vault, ago: timedelta
) -> None:
    item = await gateway.put(Item(key="ENDS"), "s3cret")
    vault.ends = datetime.now(UTC) - ago

    code, message = await refusal(gateway.resolve([item]))

    assert code == "FAILED_PRECONDITION"
    assert "s3cret" not in message


# Delete (CREDU-DEL-01, CREDU-DEL-02)


async def test_a_delete_is_repeatable_and_touches_nothing_else(gateway: Gateway) -> None:
    gone, kept = await store_many(gateway, 2)

    await gateway.delete(gone)
    await gateway.delete(gone)

    assert (await refusal(gateway.resolve([gone])))[0] == "NOT_FOUND"
    assert await gateway.value(kept) == "value-1"


async def test_a_driver_s_not_found_is_no_error_of_a_delete(gateway: Gateway, vault: Vault) -> None:
    item = await gateway.put(Item(), "v")
    vault.faults["API_TOKEN"] = NotFound("nothing there")

    await gateway.delete(item)


async def test_any_other_error_of_a_delete_is_answered(gateway: Gateway, vault: Vault) -> None:
    item = await gateway.put(Item(), "v")
    vault.faults["API_TOKEN"] = Unavailable("not now")

    assert await refusal(gateway.delete(item)) == ("UNAVAILABLE", "not now")


async def test_a_delete_or_resolve_without_a_handle_is_refused(gateway: Gateway) -> None:
    delete = wire.DeleteCredentialRequest(provider="p", credential_key="K")
    resolve = wire.ResolveCredentialsRequest(
        credentials=[
            wire.ResolveCredentialRequest(request_id="1", provider="p", credential_key="K")
        ]
    )

    codes = [
        (await refusal(gateway.call(STORE + name, request, type(request))))[0]
        for name, request in (("DeleteCredential", delete), ("ResolveCredentials", resolve))
    ]

    assert codes == ["INVALID_ARGUMENT", "INVALID_ARGUMENT"]


# Lists (CREDU-LIST-01, CREDU-SEC-01)


async def test_a_list_has_every_handle_and_no_value(gateway: Gateway) -> None:
    items = [await gateway.put(Item(key=f"K{n}"), "s3cret") for n in range(3)]

    response = await gateway.list_stored()

    assert [each.handle for each in response.credentials] == [item.handle for item in items]
    assert b"s3cret" not in response.SerializeToString()


# Many at once (CREDU-CON-01)


async def test_stores_and_resolves_at_once_do_not_mix(gateway: Gateway) -> None:
    async def one(number: int) -> None:
        item = await gateway.put(Item(key=f"K{number}"), f"value-{number}")
        assert await gateway.value(item) == f"value-{number}"

    async with anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(one, number)


async def test_writes_to_one_slot_do_not_overlap_in_the_driver(
    gateway: Gateway, vault: Vault
) -> None:
    item = await gateway.put(Item(), "first")
    other = await gateway.put(Item(), "other")
    vault.pause = 0.02

    async with anyio.create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(gateway.put, item, f"v{number}")

    assert not vault.overlapped
    assert await gateway.value(item) in {f"v{number}" for number in range(16)}
    assert await gateway.value(other) == "other"


async def test_writes_to_different_slots_do_overlap(gateway: Gateway, vault: Vault) -> None:
    vault.pause = 0.2

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for number in range(16):
            tasks.start_soon(gateway.put, Item(key=f"K{number}"), "v")

    assert time.monotonic() - began < 1.5  # one after the other: 3.2 s


# Names that a gateway chooses (CREDU-HND-01)


async def test_the_driver_named_in_a_handle_is_not_looked_at(gateway: Gateway) -> None:
    item = await gateway.put(Item(), "v")
    request = wire.ResolveCredentialsRequest(
        credentials=[
            wire.ResolveCredentialRequest(
                request_id="1",
                provider=item.provider,
                credential_key=item.key,
                handle=CredentialHandle(
                    driver="another-name", handle=item.handle or "", metadata={"added": "later"}
                ),
                workspace=item.workspace,
                provider_id=item.provider_id,
            )
        ]
    )

    response = await gateway.call(
        STORE + "ResolveCredentials", request, wire.ResolveCredentialsResponse
    )

    assert response.credentials[0].value == "v"
