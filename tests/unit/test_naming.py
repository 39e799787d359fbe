"""Names and labels: valid, bounded, readable where possible, and never shared by accident."""

from __future__ import annotations

import re
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from openshell_drivers.compute import SandboxSpec
from openshell_drivers.naming import identity_labels, label_value, merge_labels, object_name

#: From the Kubernetes documentation.
DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
WORDS: Final = st.text("aB0-._é", max_size=40) | st.text(max_size=260)
PAIRS: Final = st.tuples(WORDS, WORDS)


@pytest.mark.parametrize(
    ("workspace", "name", "expected"),
    [
        ("default", "demo", "default--demo"),
        ("team-a", "x", "team-a--x"),
        ("0", "1", "0--1"),
        ("w" * 42, "n" * 19, f"{'w' * 42}--{'n' * 19}"),
    ],
)
def test_plain_labels_that_fit_stay_readable(workspace: str, name: str, expected: str) -> None:
    assert object_name(workspace, name) == expected


@pytest.mark.parametrize(
    ("workspace", "name", "shown"),
    [
        ("", "demo", "demo"),
        ("Default", "demo", "default-demo"),
        ("w", "a.b", "w-a-b"),
        ("w", "a--b", "w-a-b"),
        ("a--b", "c", "a-b-c"),
        ("w-", "n", "w-n"),
        ("w", "-n", "w-n"),
        ("w", "n\n", "w-n"),
        ("ws", "naïve", "ws-na-ve"),
        ("w" * 43, "n" * 19, f"{'w' * 43}-{'n' * 5}"),
        ("", "n" * 253, "n" * 49),
    ],
)
def test_others_have_a_readable_part_and_a_digest(workspace: str, name: str, shown: str) -> None:
    made = object_name(workspace, name)

    assert re.fullmatch(re.escape(shown) + "-[a-z2-7]{13}", made)


def test_a_name_with_nothing_readable_is_a_digest() -> None:
    assert re.fullmatch("[a-z2-7]{13}", object_name("", "名前"))


def test_a_name_never_changes() -> None:
    # Pinned: objects made by an older version of a driver must be found again.
    assert object_name("", "demo") == "demo-dyb6emijavr2s"
    assert label_value("naïve") == "na-ve__3w652lxpfpsbm"


@given(PAIRS, st.sampled_from(["", "os-", "a"]), st.sampled_from([63, 40, 17]))
def test_a_name_is_a_dns_label_of_bounded_length(
    pair: tuple[str, str], prefix: str, longest: int
) -> None:
    made = object_name(*pair, prefix=prefix, max_length=longest)

    assert DNS_LABEL.fullmatch(made)
    assert len(made) <= longest
    assert made.startswith(prefix)


@given(PAIRS, PAIRS, st.sampled_from([63, 20]))
@example(("a-b", "c"), ("a", "b-c"), 63)
@example(("a--b", "c"), ("a", "b--c"), 63)
@example(("", "a"), ("a", ""), 63)
@example(("A", "b"), ("a", "b"), 63)
@example(("1:a", "b"), ("1", "a:b"), 63)
@example(("w", "n" * 253), ("w", "n" * 252), 63)
@example(("w", "\ud800"), ("w", "\ud801"), 63)
def test_two_sandboxes_never_share_a_name(
    one: tuple[str, str], other: tuple[str, str], longest: int
) -> None:
    names = [object_name(*pair, max_length=longest) for pair in (one, other)]

    assert (names[0] == names[1]) == (one == other)


@given(PAIRS, st.sampled_from([63, 20]))
@example(("w", "x-dyb6emijavr2s"), 63)
def test_only_plain_names_have_two_hyphens(pair: tuple[str, str], longest: int) -> None:
    made = object_name(*pair, max_length=longest)

    assert ("--" in made) == (made == "--".join(pair))


@given(PAIRS)
def test_the_name_of_another_sandbox_is_no_way_to_take_its_object(pair: tuple[str, str]) -> None:
    taken = object_name(*pair)

    assert object_name("", taken) != taken
    assert object_name(*taken.rpartition("-")[::2]) != taken


@pytest.mark.parametrize("prefix", ["-", "A", "a_", "é", "a\n", " "])
def test_a_prefix_that_cannot_begin_a_label_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix must be"):
        object_name("w", "n", prefix=prefix)


def test_a_length_without_room_for_the_digest_is_refused() -> None:
    assert len(object_name("", "demo", prefix="p-", max_length=15)) == 15
    with pytest.raises(ValueError, match="max_length must leave 13"):
        object_name("", "demo", prefix="p-", max_length=14)


@pytest.mark.parametrize(
    "text",
    ["", "a", "A.b_c-9", "b4f3a2ac-3c8a-4a36-9d5a-0b5de8a0cf0e", "x" * 63, "a__b", "x" * 14],
)
def test_a_label_value_stays_as_it_is(text: str) -> None:
    assert label_value(text) == text


@pytest.mark.parametrize("text", ["-a", "a-", "a b", "é", "a\n", "x" * 64, "名前", ".", "a/b"])
def test_any_other_text_becomes_a_label_value_with_a_digest(text: str) -> None:
    made = label_value(text)

    assert re.fullmatch(r"[A-Za-z0-9-]+__[a-z2-7]{13}", made)


@given(WORDS)
def test_a_label_value_is_valid(text: str) -> None:
    made = label_value(text)

    assert LABEL_VALUE.fullmatch(made)
    assert len(made) <= 63


@given(WORDS, WORDS)
@example("a b", "a/b")
@example("x" * 64, "x" * 65)
def test_two_texts_never_share_a_label_value(one: str, other: str) -> None:
    assert (label_value(one) == label_value(other)) == (one == other)


@given(WORDS)
def test_a_text_that_looks_shortened_is_not_taken_for_it(text: str) -> None:
    shortened = label_value(f"{text} ")

    assert label_value(shortened) != shortened


def test_the_labels_of_a_sandbox_say_whose_it_is() -> None:
    spec = SandboxSpec(id="b4f3a2ac-3c8a", name="demo", workspace="team")

    assert identity_labels(spec) == {
        "openshell.ai/managed-by": "openshell",
        "openshell.ai/sandbox-id": "b4f3a2ac-3c8a",
        "openshell.ai/sandbox-name": "demo",
        "openshell.ai/sandbox-workspace": "team",
    }


def test_a_driver_s_and_a_gateway_s_name_are_labels_if_given() -> None:
    labels = identity_labels(SandboxSpec(id="i", name="n"), driver="my driver", gateway_id="g1")

    assert labels["openshell.ai/managed-by"] == label_value("my driver")
    assert labels["openshell.ai/gateway-id"] == "g1"
    assert labels["openshell.ai/sandbox-workspace"] == ""


def test_a_long_id_is_found_by_its_label_value() -> None:
    spec = SandboxSpec(id="x" * 128, name="n" * 253)
    labels = identity_labels(spec)

    assert labels["openshell.ai/sandbox-id"] == label_value("x" * 128)
    assert all(LABEL_VALUE.fullmatch(value) and len(value) <= 63 for value in labels.values())


def test_a_user_s_label_never_stands_for_the_driver_s() -> None:
    own = identity_labels(SandboxSpec(id="i", name="n"))
    user = {
        "app": "x",
        "openshell.ai/sandbox-id": "other",
        "openshell.ai/gateway-id": "other",
        "OpenShell.ai/gateway-id": "other",
        "internal.openshell.ai/compute-runtime-identity": "other",
        "openshell.ai.example.org/x": "kept",
        "example.org/openshell.ai": "kept",
    }

    assert merge_labels(user, {**own, "team": "t"}) == {
        "app": "x",
        "openshell.ai.example.org/x": "kept",
        "example.org/openshell.ai": "kept",
        "team": "t",
        **own,
    }


def test_the_driver_s_own_label_wins_over_a_user_s() -> None:
    assert merge_labels({"team": "theirs"}, {"team": "ours"}) == {"team": "ours"}
