"""A handle is good for its owner only, opens nothing to anybody else, and says nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openshell_drivers._codec.handles import Owner, new_slot, open_handle
from openshell_drivers.errors import DriverError, InvalidArgument, PermissionDenied
from tests.wire.gateway import Gateway, Item, refusal
from tests.wire.vault import Vault

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
owners = st.builds(Owner, workspace=texts, provider=texts, provider_id=texts, key=texts)
SLOT_ID = re.compile(r"[a-z][a-z0-9]{39}")
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"

Bend = Callable[[str], str]
BENT: dict[str, tuple[Bend, str]] = {
    "empty": (lambda _: "", "INVALID_ARGUMENT"),
    "blank": (lambda _: " ", "INVALID_ARGUMENT"),
    "padded": (lambda h: h + "\n", "INVALID_ARGUMENT"),
    "cut at the end": (lambda h: h[:-1], "INVALID_ARGUMENT"),
    "cut at the beginning": (lambda h: h[1:], "INVALID_ARGUMENT"),
    "a part less": (lambda h: h.rpartition(".")[0], "INVALID_ARGUMENT"),
    "a part more": (lambda h: h + ".x", "INVALID_ARGUMENT"),
    "version 2": (lambda h: "v2" + h[2:], "INVALID_ARGUMENT"),
    "capitals": (str.upper, "INVALID_ARGUMENT"),
    "a path": (lambda _: "../../etc/passwd", "INVALID_ARGUMENT"),
    "endless": (lambda h: h * 10_000, "INVALID_ARGUMENT"),
    "other nonce": (lambda h: _turn(h, 3), "PERMISSION_DENIED"),
    "nonce's spare bits": (lambda h: _turn(h, 28), "PERMISSION_DENIED"),
    "other tag": (lambda h: _turn(h, -1), "PERMISSION_DENIED"),
    "tag of zeros": (lambda h: h[:-20] + "a" * 20, "PERMISSION_DENIED"),
}
FOREIGN = [
    {"workspace": "team2"},
    {"workspace": ""},
    {"provider": "gitlab"},
    {"provider_id": "77aa"},
    {"provider_id": ""},
    {"key": "OTHER"},
    {"workspace": "teamgithub", "provider": ""},
    {"workspace": "tea", "provider": "mgithub"},
]
USES: dict[str, Callable[[Gateway, Item], Awaitable[object]]] = {
    "resolve": lambda gateway, item: gateway.resolve([item]),
    "delete": lambda gateway, item: gateway.delete(item),
    "overwrite": lambda gateway, item: gateway.put(item, "foreign"),
}


def _turn(handle: str, at: int) -> str:
    """Replace one character by its neighbour."""
    at %= len(handle)
    other = ALPHABET[(ALPHABET.index(handle[at]) + 1) % 32]
    return handle[:at] + other + handle[at + 1 :]


@pytest.mark.parametrize(
    ("case", "use"),
    # A store with an empty handle is refused too: it names a value to overwrite, and there is none.
    [(case, use) for case in BENT for use in USES],
)
async def test_a_handle_that_is_not_ours_is_refused_and_does_nothing(
    gateway: Gateway, vault: Vault, case: str, use: str
) -> None:
    bend, code = BENT[case]
    item = await gateway.put(Item(), "s3cret")
    bent = dataclasses.replace(item, handle=bend(item.handle or ""))

    answered = await refusal(USES[use](gateway, bent))

    assert answered[0] == code
    assert "s3cret" not in answered[1]
    assert await gateway.value(item) == "s3cret"
    assert len(vault.stored) == 1
    assert vault.deleted == []


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("foreign", FOREIGN, ids=str)
async def test_a_handle_shown_by_another_owner_is_refused_and_does_nothing(
    gateway: Gateway, vault: Vault, foreign: dict[str, str], use: str
) -> None:
    item = await gateway.put(Item(), "s3cret")
    other = dataclasses.replace(item, **foreign)

    answered = await refusal(USES[use](gateway, other))

    assert answered[0] in {"INVALID_ARGUMENT", "PERMISSION_DENIED"}
    assert "s3cret" not in answered[1]
    assert await gateway.value(item) == "s3cret"
    assert len(vault.stored) == 1
    assert vault.deleted == []


@pytest.mark.parametrize("use", ["resolve", "delete", "overwrite"])
async def test_one_with_two_handles_cannot_exchange_them(
    gateway: Gateway, vault: Vault, use: str
) -> None:
    mine = await gateway.put(Item(workspace="one"), "mine")
    yours = await gateway.put(Item(workspace="two"), "yours")

    answered = await refusal(USES[use](gateway, dataclasses.replace(mine, handle=yours.handle)))

    assert answered[0] == "PERMISSION_DENIED"
    assert await gateway.value(yours) == "yours"


async def test_a_handle_made_with_full_knowledge_opens_nothing_of_anybody(
    gateway: Gateway, vault: Vault
) -> None:
    """Whoever knows how handles are made can make a valid one; it leads to an empty slot."""
    stored = await gateway.put(Item(), "s3cret")
    assert stored.handle is not None
    thief = Owner(workspace="thief", provider="github", provider_id="0b5e", key="API_TOKEN")
    nonce = stored.handle.split(".")[1]
    made = f"v1.{nonce}.{_tag(thief, nonce)}"
    item = dataclasses.replace(stored, workspace="thief", handle=made)

    assert open_handle(made, thief).handle == made  # it is well made
    assert (await refusal(gateway.resolve([item])))[0] == "NOT_FOUND"
    await gateway.delete(item)
    await gateway.put(item, "planted")
    assert await gateway.value(stored) == "s3cret"


def _tag(owner: Owner, nonce: str) -> str:
    digest = hashlib.sha256(b"openshell-drivers handle v1 tag")
    for part in (owner.workspace, owner.provider, owner.provider_id, owner.key, nonce):
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return base64.b32encode(digest.digest()).decode().lower()[:20]


async def test_a_handle_holds_nothing_of_its_value_or_owner(gateway: Gateway) -> None:
    item = await gateway.put(
        Item(workspace="workspaceaaa", provider="providerbbb", provider_id="idcccc", key="KEYDDDD"),
        "secreteeee",
    )
    assert item.handle is not None

    _, nonce, tag = item.handle.split(".")
    for text in (item.handle, *(_plain(part) for part in (nonce, tag))):
        for word in ("workspaceaaa", "providerbbb", "idcccc", "keydddd", "secreteeee"):
            assert word not in text.lower()


def _plain(part: str) -> str:
    return base64.b32decode(part.upper() + "=" * (-len(part) % 8)).decode("latin-1")


@given(owners, texts)
def test_the_handle_of_a_new_slot_opens_the_same_slot(owner: Owner, object_id: str) -> None:
    slot = new_slot(owner, object_id)

    assert open_handle(slot.handle, owner, object_id) == slot
    assert (slot.workspace, slot.provider, slot.provider_id, slot.key) == dataclasses.astuple(owner)


@given(owners, texts)
def test_a_slot_id_is_forty_small_letters_and_digits(owner: Owner, object_id: str) -> None:
    assert SLOT_ID.fullmatch(new_slot(owner, object_id).id)


@given(owners, owners)
def test_another_owner_never_opens_a_handle_nor_shares_a_slot(one: Owner, two: Owner) -> None:
    assume(one != two)
    slot = new_slot(one, "")

    with pytest.raises(PermissionDenied):
        open_handle(slot.handle, two)
    nonce = slot.handle.split(".")[1]
    assert open_handle(f"v1.{nonce}.{_tag(two, nonce)}", two).id != slot.id


@given(owners)
def test_the_same_owner_never_gets_a_slot_twice(owner: Owner) -> None:
    slots = [new_slot(owner, "") for _ in range(20)]

    assert len({slot.id for slot in slots}) == len({slot.handle for slot in slots}) == 20


@given(owners, st.text(max_size=80))
def test_any_text_as_a_handle_is_refused(owner: Owner, text: str) -> None:
    with pytest.raises((InvalidArgument, PermissionDenied)) as caught:
        open_handle(text, owner)

    assert isinstance(caught.value, DriverError)
    assert len(text) < 10 or text not in caught.value.message


def test_a_handle_made_by_the_first_release_still_opens() -> None:
    """Handles are kept by gateways for years: what is pinned here can never change."""
    owner = Owner(workspace="team", provider="github", provider_id="0b5e", key="API_TOKEN")

    slot = open_handle(PINNED_HANDLE, owner)

    assert slot.id == PINNED_ID


PINNED_HANDLE = "v1.abcdefghijklmnopqrstuvwxyz.eb33mgnvbqoo2lxjiham"
PINNED_ID = "ch7hefxgby7oocjwfklcwhj46znpuhu4uibnje6f"
