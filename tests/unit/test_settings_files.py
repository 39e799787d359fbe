"""Configuration files: what they may be, and that what is wrong with them quotes none of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openshell_drivers import ConfigError
from openshell_drivers._documents import read_file

CANARY = "canary-5d21c0"
DEEP = 200_000

Put = Callable[[str, str | bytes], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    text = str(caught.value)
    assert str(path) in text
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert CANARY not in text
    return text.replace(str(path), "PATH")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.toml", 'key = ["x", 1]\n[server]\nreflection = true\n'),
        ("a.json", '{"key": ["x", 1], "server": {"reflection": true}}'),
        ("a.yaml", "key: [x, 1]\nserver:\n  reflection: true\n"),
        ("a.yml", "key:\n- x\n- 1\nserver: {reflection: yes}\n"),
        ("A.YAML", "key: [x, 1]\nserver: {reflection: true}\n"),
    ],
)
def test_the_suffix_tells_the_format(put: Put, name: str, content: str) -> None:
    assert read_file(put(name, content)) == {"key": ["x", 1], "server": {"reflection": True}}


@pytest.mark.parametrize("name", ["a.toml", "a.yaml"])
@pytest.mark.parametrize("content", ["", "\n", "# nothing\n"])
def test_a_file_without_keys_is_an_empty_configuration(put: Put, name: str, content: str) -> None:
    assert read_file(put(name, content)) == {}


def test_a_file_that_cannot_be_had_is_named_with_the_reason(tmp_path: Path) -> None:
    assert problem(tmp_path / "none.json") == "cannot read 'PATH': No such file or directory"
    assert problem(tmp_path) == "cannot read 'PATH': Is a directory"
    circle = tmp_path / "circle.json"
    circle.symlink_to(circle)
    assert problem(circle) == "cannot read 'PATH': Too many levels of symbolic links"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_somebody_else_is_named_with_the_reason(put: Put) -> None:
    path = put("a.json", "{}")
    path.chmod(0)

    assert problem(path) == "cannot read 'PATH': Permission denied"


@pytest.mark.parametrize("name", ["config", "config.ini", "config.yaml.bak"])
def test_another_suffix_is_refused(put: Put, name: str) -> None:
    assert problem(put(name, CANARY)) == "'PATH' must end in .toml, .json, .yaml, .yml"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.toml", f'a = 1\nb = "{CANARY}', "is not valid TOML"),
        ("a.toml", f"a = 1\nb = {CANARY}\n", "is not valid TOML (line 2)"),
        ("a.toml", f"{CANARY} = 1\n{CANARY} = 2\n", "is not valid TOML (line 2)"),
        ("a.toml", f"a = {'9' * 5000}", "is not valid TOML"),
        ("a.toml", "a = " + "[" * DEEP, "is not valid TOML"),
        ("a.toml", CANARY.encode() + b"\xff", "is not valid TOML"),
        ("a.json", f'{{"a":\n "{CANARY}}}', "is not valid JSON (line 2)"),
        ("a.json", f'{{"a": {"9" * 5000}}}', "is not valid JSON"),
        ("a.json", "[" * DEEP, "is not valid JSON"),
        ("a.json", b'"' + CANARY.encode() + b'\xff"', "is not valid JSON"),
        ("a.json", "", "is not valid JSON (line 1)"),
        ("a.yaml", f"a: 1\nb: [{CANARY}", "is not valid YAML (line 2)"),
        ("a.yaml", f"a: '{CANARY}\n", "is not valid YAML (line 2)"),
        ("a.yaml", f"a: !!bool {CANARY}", "is not valid YAML"),
        ("a.yaml", f"a: !!int {CANARY}", "is not valid YAML"),
        ("a.yaml", f"a: !!float {CANARY}", "is not valid YAML"),
        ("a.yaml", f"a: !!timestamp {CANARY}", "is not valid YAML"),
        ("a.yaml", f"a: !!binary é{CANARY}", "is not valid YAML (line 1)"),
        ("a.yaml", "a: !!int ''", "is not valid YAML"),
        ("a.yaml", "a: 2026-13-45", "is not valid YAML"),
        ("a.yaml", f"a: {'9' * 5000}", "is not valid YAML"),
        ("a.yaml", f"? [{CANARY}]\n: 1", "is not valid YAML (line 1)"),
        ("a.yaml", f"? {{{CANARY}: 1}}\n: 1", "is not valid YAML (line 1)"),
        ("a.yaml", f"a: *{CANARY}", "is not valid YAML (line 1)"),
        ("a.yaml", f"--- {{}}\n--- {CANARY}", "is not valid YAML (line 2)"),
        ("a.yaml", "[" * 20_000, "is not valid YAML"),
        ("a.yaml", CANARY.encode() + b"\xff\xfe\x00", "is not valid YAML"),
        ("a.yaml", f"%{CANARY}", "is not valid YAML (line 1)"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:30],
)
def test_a_broken_file_is_named_with_the_line_at_most(
    put: Put, name: str, content: str | bytes, said: str
) -> None:
    assert problem(put(name, content)) == f"'PATH': {said}"


@pytest.mark.parametrize("name", ["a.toml", "a.json", "a.yaml"])
def test_random_bytes_are_no_configuration(put: Put, name: str) -> None:
    noise = bytes(range(256)) + CANARY.encode()

    assert "is not valid" in problem(put(name, noise))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", f'["{CANARY}"]'),
        ("a.json", f'"{CANARY}"'),
        ("a.json", "1"),
        ("a.yaml", f"- {CANARY}"),
        ("a.yaml", CANARY),
        ("a.yaml", f"1: {CANARY}"),
        ("a.yaml", f"no: {CANARY}"),
        ("a.yaml", f"2026-01-01: {CANARY}"),
    ],
)
def test_the_whole_must_be_a_mapping_with_text_as_keys(put: Put, name: str, content: str) -> None:
    assert problem(put(name, content)) == "'PATH' must hold a mapping, with text as keys"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.yaml", "key: 1\nother: 2\nkey: 3\n", "line 3: key 'key' occurs twice"),
        ("a.yaml", "a:\n  b:\n    key: 1\n    key: 2\n", "line 4: key 'key' occurs twice"),
        ("a.yaml", "- {key: 1, key: 1}\n", "line 1: key 'key' occurs twice"),
        ("a.yaml", 'key: 1\n"key": 2\n', "line 2: key 'key' occurs twice"),
        ("a.yaml", "b: &b {x: 1, x: 2}\nc: *b", "line 1: key 'x' occurs twice"),
        ("a.json", '{"key": 1, "key": 2}', "key 'key' occurs twice"),
        ("a.json", '{"a": [{"key": 1, "key": 2}]}', "key 'key' occurs twice"),
    ],
)
def test_a_key_that_occurs_twice_is_an_error(put: Put, name: str, content: str, said: str) -> None:
    assert problem(put(name, content)) == f"'PATH': {said}"


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x {k: 1}\nb: {<<: *x, l: 2}", {"a": {"k": 1}, "b": {"k": 1, "l": 2}}),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2}", {"a": {"k": 1}, "b": {"k": 2}}),
        # What b merges is itself a mapping that overrides: no key occurs twice as written.
        (
            "a: {in: &x {<<: {k: 1}, k: 2}}\nb: {<<: *x}",
            {"a": {"in": {"k": 2}}, "b": {"k": 2}},
        ),
        ("a: {<<: [{k: 1}, {k: 2, l: 3}]}", {"a": {"k": 1, "l": 3}}),
        ("a: {<<: {k: 1}, <<: {l: 2}}", {"a": {"k": 1, "l": 2}}),
    ],
)
def test_yaml_may_refer_and_merge(put: Put, content: str, meant: object) -> None:
    assert read_file(put("a.yaml", content)) == meant


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.getpid []",
        "!!python/name:os.getpid",
        "!!python/tuple [1]",
        "!!python/object/new:os.getpid []",
        "!custom x",
    ],
)
def test_yaml_makes_no_python_objects(put: Put, tag: str) -> None:
    assert problem(put("a.yaml", f"a: {tag}")) == "'PATH': is not valid YAML (line 1)"


@pytest.mark.timeout(20)
def test_yaml_that_merges_merges_does_not_grow_without_end(put: Put) -> None:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40)]

    assert read_file(put("a.yaml", "\n".join(lines)))["a39"] == {"k": 1}


@pytest.mark.timeout(20)
def test_yaml_that_refers_to_references_does_not_grow_without_end(put: Put) -> None:
    lines = ["a0: &a0 [x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]

    found: Any = read_file(put("a.yaml", "\n".join(lines)))["a39"]

    assert found[0] is found[8]


def test_yaml_that_contains_itself_is_read(put: Put) -> None:
    circle = read_file(put("a.yaml", "a: &a {b: *a}"))["a"]

    assert circle["b"] is circle


def test_yaml_without_its_package_is_an_error_that_says_so(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openshell_drivers._yaml", None)

    assert "openshell-drivers[yaml]" in problem(put("a.yaml", "a: 1"))
