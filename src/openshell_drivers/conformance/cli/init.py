"""``openshell-drivers init``: the first draft of a conformance profile, found by looking."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import anyio
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from openshell_drivers._flags import Parser
from openshell_drivers._logs import printable
from openshell_drivers.conformance._asked import PROFILE_FILE
from openshell_drivers.conformance._instances import TargetNotReady
from openshell_drivers.conformance._profile import Profile
from openshell_drivers.conformance._request import Request
from openshell_drivers.conformance.cli.probing import Findings, probe
from openshell_drivers.conformance.cli.targets import requested
from openshell_drivers.errors import ConfigError, Unavailable

_WIDTH: Final = 96
#: The meaning of what needs no words where it is defined.
_MEANINGS: Final[Mapping[str, str]] = {
    "target.name": "The driver's name in reports; its own name if empty.",
    "target.organization": "Who makes it.",
    "target.url": "Where it is to be found.",
    "compute.workspaces": "Two workspaces in which sandboxes may be made.",
    "compute.name_max_length": "The longest name of a sandbox that the platform takes.",
    "compute.timeouts.ready": "From a create or a start until the sandbox is ready.",
    "compute.timeouts.stopped": "From a stop until the sandbox is stopped.",
    "compute.timeouts.gone": "From a delete until the sandbox is gone.",
    "credentials.known": "Names that the driver can resolve.",
    "credentials.unknown": "A name that it cannot.",
    "store.workspaces": "Two workspaces in which credentials may be stored.",
    "store.max_value_bytes": "The largest secret that may be stored.",
    "backend.outage_begin": "From now on the platform is out of reach.",
    "backend.outage_end": "The platform is back.",
    "backend.fast": "The end of slow.",
    "backend.timeout": "Seconds for each verb.",
    "process.pid": "Its process id.",
    "process.restart": "Starts it again.",
    "process.logs": "Prints its log.",
}
#: What stands for a key without a default, to be uncommented and changed.
_EXAMPLES: Final[Mapping[str, str]] = {"process.pid": "1234"}


def init(arguments: list[str]) -> int:
    """Run the command."""
    parser = Parser(
        "openshell-drivers init TARGET",
        "Start a driver, look at it, and write a profile for openshell-drivers verify.",
    )
    parser.add_argument("target", metavar="TARGET", help="as for verify")
    parser.add_argument(
        "-o",
        dest="output",
        default=PROFILE_FILE,
        metavar="FILE",
        help=f"({PROFILE_FILE}); - prints",
    )
    parser.add_argument("--env", action="append", metavar="NAMES", help="as for verify")
    options = parser.parse(arguments)
    path = Path(options.output)
    if options.output != "-" and path.exists():
        raise ConfigError(f"{path}: exists already; name another file with -o")
    text = _draft(options.target, options.env)
    if options.output == "-":
        print(text, end="")
        return 0
    path.write_text(text, "utf-8")
    print(f"wrote {path}; openshell-drivers verify reads it from the folder it is started in")
    return 0


def _draft(text: str, names: list[str] | None) -> str:
    request = Request.model_validate(
        {**requested(text, {"env": names}), "profile": None, "events": "-", "ledgers": "-"}
    )
    try:
        found = anyio.run(probe, request.target.target(), Profile())
    except TargetNotReady as error:
        raise Unavailable(str(error)) from None
    return draft(found, request.target.read_as)


def draft(found: Findings, target: str) -> str:
    """A profile as TOML: every key, with its meaning, commented out where it has its default."""
    lines = [
        f"# What openshell-drivers verify should know of {target}.",
        f"# Found: {found.name or 'a driver without a name'} {found.version}".rstrip()
        + f", which serves {', '.join(found.services) or 'nothing that is known'}.",
        "# What is commented out shows the default.",
    ]
    lines += _section("", Profile, _set(found), _remarks(found))
    return "\n".join(printable(line, 1000) for line in lines) + "\n"


def _set(found: Findings) -> dict[str, Any]:
    """The keys that were found out."""
    keys: dict[str, Any] = {"target.name": found.name} if found.name else {}
    if found.known:
        keys["credentials.known"] = found.known
    absent = [rpc for rpc, there in found.optional.items() if not there]
    if absent:
        keys["unsupported"] = dict.fromkeys(absent, "say why")
    return keys


def _remarks(found: Findings) -> dict[str, str]:
    """What was found out about keys."""
    if "compute" not in found.services:
        return {}
    image = f"Its default image is {found.default_image!r}. " if found.default_image else ""
    said = found.template
    verdict = (
        f"It refuses a sandbox of the default template: {said}"
        if said
        else ("It accepts a sandbox of the default template.")
    )
    return {"compute.template": image + verdict}


def _section(
    place: str, model: type[BaseModel], given: Mapping[str, Any], remarks: Mapping[str, str]
) -> Iterator[str]:
    words = _meanings(model)
    tables: list[tuple[str, type[BaseModel] | None]] = []
    for name, info in model.model_fields.items():
        path = f"{place}.{name}" if place else name
        default = info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            tables.append((path, type(default)))
        elif not place:
            tables.append((path, None))
        else:
            said = (_MEANINGS.get(path) or words.get(name, ""), remarks.get(path, ""))
            yield from _comment(" ".join(filter(None, said)))
            yield _key(path, name, info, given)
    for path, table in tables:
        yield ""
        if table is not None:
            yield from _comment(inspect.cleandoc(table.__doc__ or ""))
            yield f"[{path}]"
            yield from _section(path, table, given, remarks)
        else:
            yield from _comment(words.get(path, ""))
            yield f"[{path}]"
            yield from (f"{key} = {_toml(value)}" for key, value in given.get(path, {}).items())


def _key(path: str, name: str, info: FieldInfo, given: Mapping[str, Any]) -> str:
    if path in given:
        return f"{name} = {_toml(given[path])}"
    default = info.get_default(call_default_factory=True)
    value = _EXAMPLES.get(path, "{}") if default is None else _toml(default)
    return f"# {name} = {value}" + ("  # none by default" if default is None else "")


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        for line in textwrap.wrap(" ".join(paragraph.split()).replace("``", "`"), _WIDTH):
            yield f"# {line}"


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The words that stand under each field in the source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    parts = body.body if isinstance(body, ast.ClassDef) else []
    found = {}
    for field, words in pairwise(parts):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = words.value if isinstance(words, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                found[field.target.id] = inspect.cleandoc(text.value)
    return found


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
