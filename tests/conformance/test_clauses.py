"""Tests of the clause registry: that it is whole, says where things come from, and is checked."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Final, get_args

import pytest

from openshell_drivers._revisions import Revision, revisions
from openshell_drivers.conformance._clauses import (
    Clause,
    Line,
    clauses,
    exclusions,
    parse_clauses,
    parse_exclusions,
)

#: The gateway contract's requirements: how many there are of each kind, numbered from 01.
CONTRACT: Final = {
    "COMP-SOCK": 11,
    "COMP-CAP": 4,
    "COMP-LSN": 4,
    "COMP-VAL": 8,
    "COMP-IN": 9,
    "COMP-CREATE": 10,
    "COMP-SEC": 4,
    "COMP-GET": 7,
    "COMP-LIST": 5,
    "COMP-WATCH": 12,
    "COMP-STAT": 9,
    "COMP-STOP": 6,
    "COMP-START": 4,
    "COMP-DEL": 9,
    "COMP-WS": 3,
    "CREDF-SOCK": 1,
    "CREDF-RES": 4,
    "CREDF-LIST": 1,
    "CREDF-MIX": 1,
    "CREDU-CAP": 1,
    "CREDU-SOCK": 1,
    "CREDU-STORE": 6,
    "CREDU-HND": 2,
    "CREDU-RES": 4,
    "CREDU-DEL": 2,
    "CREDU-LIST": 1,
    "CREDU-SEC": 1,
    "CREDU-CON": 1,
    "COMP01-NEG": 8,
    "COMP01-ADM": 8,
    "COMP01-RES": 2,
    "COMP01-AUTH": 3,
    "COMP01-ID": 2,
    "COMP01-LAUNCH": 4,
    "COMP01-START": 3,
    "COMP01-IN": 5,
    "COMP01-TIME": 2,
    "COMP01-STAT": 6,
    "COMP01-CREATE": 3,
    "COMP01-DEL": 1,
    "COMPAT01": 6,
    "CREDU01-NEG": 3,
    "CREDU01-EXP": 3,
    "CREDU01-NAME": 1,
}
OUR_OWN: Final = re.compile(r"(PROC|SEC)-[A-Z]+-\d\d|CREDF-(RES|LIST)-\d\d")
EVIDENCE: Final = re.compile(
    r"[\w.-]+/[\w.-]+(#\d+|@[0-9a-f]{7,40} [\w.-]+(/[\w.-]+)*(:\d+(-\d+)?| \(\w+\))?)"
)
LONGEST: Final = {"text": 330, "sees": 240, "mend": 420}

GOOD: Final = """
[COMP-GET-01]
text = "An unknown id answers NOT_FOUND."
levels = { F = "MUST", N = "SHOULD" }
source = "gateway"
where = "NVIDIA/OpenShell@2f7fb655 a/b.rs:1-2"
observed = "wire"
unobserved = ""
sees = "Deleted sandboxes stay."
mend = "Answer NOT_FOUND."
covers = ["GetSandbox"]
"""


def names(revision: Revision) -> Iterator[str]:
    """Name what a revision has, as clauses name it."""
    for key, contract in revision.contracts.items():
        for rpc in contract.rpcs:
            yield f"{contract.service}.{rpc}" if len(owners()[rpc]) > 1 else rpc
        superset = importlib.import_module(f"openshell_drivers._wire.{key}_pb2").DESCRIPTOR
        for message, fields in contract.messages.items():
            known = superset.message_types_by_name[message].fields_by_number
            place = f"{key}.{message}" if len(owners()[message]) > 1 else message
            yield from (f"{place}.{known[number].name}" for number in fields)


def owners() -> Mapping[str, set[str]]:
    """The contracts of every RPC and message, by its bare name."""
    found: dict[str, set[str]] = {}
    for revision in revisions().values():
        for key, contract in revision.contracts.items():
            for name in (*contract.rpcs, *contract.messages):
                found.setdefault(name, set()).add(key)
    return found


def everything() -> set[str]:
    return {name for revision in revisions().values() for name in names(revision)}


def covered() -> set[str]:
    return {name for clause in clauses().values() for name in clause.covers}


def of(text: str) -> Clause:
    (clause,) = parse_clauses("some.toml", text)
    return clause


def test_every_requirement_of_the_contract_is_a_clause_and_the_rest_are_our_own() -> None:
    contract = {
        f"{kind}-{number:02}" for kind, most in CONTRACT.items() for number in range(1, most + 1)
    }
    assert len(contract) == 191
    assert contract <= set(clauses())
    assert [name for name in set(clauses()) - contract if not OUR_OWN.fullmatch(name)] == []


def test_numbers_of_a_kind_have_no_gaps() -> None:
    kinds: dict[str, list[int]] = {}
    for name in clauses():
        kind, _, number = name.rpartition("-")
        kinds.setdefault(kind, []).append(int(number))
    for kind, numbers in kinds.items():
        assert sorted(numbers) == list(range(1, len(numbers) + 1)), kind


def test_every_rpc_and_field_of_every_revision_is_covered_or_excluded() -> None:
    assert everything() - covered() - set(exclusions()) == set()


def test_nothing_unknown_is_covered_or_excluded() -> None:
    assert covered() - everything() == set()
    assert set(exclusions()) - everything() == set()


def test_nothing_is_both_covered_and_excluded() -> None:
    assert covered() & set(exclusions()) == set()


def test_a_clause_binds_no_line_that_has_nothing_of_what_it_is_about() -> None:
    lines = {line: set[str]() for line in get_args(Line)}
    for revision in revisions().values():
        lines[revision.mark].update(names(revision))
    for clause in clauses().values():
        for line in clause.levels:
            assert not clause.covers or lines[line] & set(clause.covers), (clause.id, line)


def test_evidence_is_public_and_spelt_out() -> None:
    for clause in clauses().values():
        for part in clause.where.split("; ") if clause.where else ():
            assert EVIDENCE.fullmatch(part), (clause.id, part)


def test_what_people_read_is_short_and_ends() -> None:
    for clause in clauses().values():
        for key, most in LONGEST.items():
            words = getattr(clause, key)
            assert len(words) <= most, (clause.id, key, len(words))
            assert words.endswith("."), (clause.id, key)


def test_every_file_of_the_folder_is_read() -> None:
    folder = resources.files("openshell_drivers.conformance.clauses")
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    read = {
        clause.id
        for file in files
        if file.name != "exclusions.toml"
        for clause in parse_clauses(file.name, file.read_text("utf-8"))
    }
    assert read == set(clauses())


def test_a_clause_says_nothing_of_a_line_that_it_does_not_name() -> None:
    clause = of(GOOD)
    assert (clause.level("F"), clause.level("U"), clause.level("N")) == ("MUST", None, "SHOULD")


def test_the_registry_cannot_be_changed_by_who_reads_it() -> None:
    for table in (clauses(), exclusions(), of(GOOD).levels):
        assert not hasattr(table, "__setitem__")


def test_clauses_are_told_apart_in_sets() -> None:
    assert len({of(GOOD), of(GOOD), of(GOOD.replace("01]", "02]"))}) == 2


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (replaced('text = "An unknown id answers NOT_FOUND."\n', ""), "text is missing"),
        (replaced("text =", "txt ="), "text is missing"),
        (GOOD + 'more = ""\n', "more is unknown"),
        (replaced("An unknown id answers NOT_FOUND.", ""), "text is empty"),
        (replaced('"An unknown id answers NOT_FOUND."', "3"), "text is not"),
        (replaced("Deleted sandboxes", "Deleted\\nsandboxes"), "sees is not"),
        (replaced("Answer NOT_FOUND.", "Answer NOT_FOUND. "), "mend is not"),
        (replaced('{ F = "MUST", N = "SHOULD" }', "{}"), "levels is no table"),
        (replaced('{ F = "MUST", N = "SHOULD" }', '["F"]'), "levels is no table"),
        (replaced('F = "MUST"', 'X = "MUST"'), "levels is no table"),
        (replaced('"SHOULD"', '"should"'), "levels has one"),
        (replaced('"SHOULD"', "[1]"), "levels has one"),
        (replaced('"gateway"', '"sdk"'), "levels has a MUST that we invented"),
        (replaced('"gateway"', '"hearsay"'), "source is none of"),
        (replaced("NVIDIA/OpenShell@2f7fb655 a/b.rs:1-2", ""), "where is empty"),
        (replaced('"wire"', '"guess"'), "observed is none of"),
        (replaced('"wire"', '"none"'), "unobserved goes with"),
        (replaced('unobserved = ""', 'unobserved = "Why not."'), "unobserved goes with"),
        (replaced('["GetSandbox"]', '"GetSandbox"'), "covers is no list"),
        (replaced('["GetSandbox"]', "[1]"), "covers is no list"),
        (replaced('["GetSandbox"]', '["GetSandbox", "GetSandbox"]'), "covers has 'GetSandbox'"),
        (replaced('["GetSandbox"]', '["Get Sandbox"]'), "covers has 'Get Sandbox'"),
    ],
)
def test_a_clause_that_is_wrong_is_refused_with_file_and_id(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=rf"^some\.toml: COMP-GET-01: {re.escape(word)}"):
        list(parse_clauses("some.toml", text))


@pytest.mark.parametrize("name", ["COMP-GET-1", "TRN-SOC-01", "COMP-get-01", "CREDF01-RES-01"])
def test_an_id_of_no_known_form_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^some\.toml: {name}: is no id"):
        list(parse_clauses("some.toml", GOOD.replace("COMP-GET-01", name)))


def test_an_id_outside_of_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^some\.toml: COMP-GET-01: is no table"):
        list(parse_clauses("some.toml", "COMP-GET-01 = 3"))


def test_a_file_that_is_no_toml_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"^some\.toml: "):
        list(parse_clauses("some.toml", "[COMP-GET-01"))


def test_an_id_that_stands_in_two_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openshell_drivers.conformance._clauses._text", lambda _file: GOOD)
    with pytest.raises(ValueError, match=r"^capabilities\.toml: COMP-GET-01: stands in"):
        clauses.__wrapped__()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "excluded: has to be"),
        ("excluded = 3", "excluded: has to be"),
        ('[excluded]\nGetSandbox = "Why."\n[more]\n', "excluded: has to be"),
        ('[excluded]\n"Get Sandbox" = "Why."\n', "Get Sandbox: names no"),
        ('[excluded]\nGetSandbox = " "\n', "GetSandbox: has no reason"),
        ("[excluded]\nGetSandbox = true\n", "GetSandbox: has no reason"),
    ],
)
def test_exclusions_that_are_wrong_are_refused_with_file_and_name(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=rf"^some\.toml: {re.escape(word)}"):
        parse_exclusions("some.toml", text)


def test_reading_the_clauses_costs_neither_grpc_nor_protobuf_nor_pydantic() -> None:
    code = (
        "import sys; from openshell_drivers.conformance._clauses import clauses, exclusions;"
        "clauses(), exclusions();"
        "print([name for name in ('grpc', 'google.protobuf', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
