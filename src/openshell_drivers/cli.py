"""`openshell-drivers`, and `driver_main` for the console script of a single driver.

Exit status: 0 done, 1 it failed, 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from openshell_drivers._faults import describe
from openshell_drivers._flags import SERVER_FLAGS, Parser, add_server_flags, given
from openshell_drivers._logs import printable
from openshell_drivers.driver import Driver
from openshell_drivers.errors import ConfigError, DriverError, SocketError
from openshell_drivers.settings import ServerSettings, Settings, Sources, load, test_switch

_LONGEST_LINE: Final = 2048


def driver_main(
    driver: type[Driver[Any]],
    *,
    socket: str | None = None,
    config: str | None = None,
    config_flags: Mapping[str, str] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Be the console script of one driver: read settings, serve, exit.

    `socket` and `config` are the defaults of the flags of that name. `config_flags` maps further
    flags, without dashes, to keys of the driver's configuration. Does not return.
    """
    arguments = sys.argv[1:] if argv is None else argv
    extra = config_flags or {}
    parser = Parser(Path(sys.argv[0]).name, inspect.cleandoc(driver.__doc__ or ""))
    _add_run_flags(parser, driver, extra, socket, config)
    sys.exit(
        _reporting(
            parser.prog,
            lambda: _run(driver, _sources(parser.parse(arguments), extra, socket, config)),
        )
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run `openshell-drivers`. Does not return."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.exit(_reporting("openshell-drivers", lambda: _dispatch(arguments)))


def _reporting(prog: str, work: Callable[[], int]) -> int:
    try:
        return work()
    except ConfigError as error:
        return _say(prog, str(error), 2)
    except DriverError as error:
        return _say(prog, f"{error.code}: {error.message}", 1)
    except (SocketError, OSError) as error:
        return _say(prog, str(error), 1)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # a traceback would show what the error quotes
        return _say(prog, describe(error), 1)


def _say(prog: str, problem: str, status: int) -> int:
    lines = [printable(line, _LONGEST_LINE) for line in problem.split("\n")]
    print(f"{prog}: " + "\n".join(lines), file=sys.stderr)
    return status


def _add_run_flags(
    parser: Parser,
    driver: type[Driver[Any]] | None = None,
    extra: Mapping[str, str] | None = None,
    socket: str | None = None,
    config: str | None = None,
) -> None:
    add_server_flags(parser, socket=socket, config=config)
    group = parser.add_argument_group("driver")
    for flag, key in (extra or {}).items():
        default = _default_of(driver, key)
        text = f"the configuration key {key}" + (f" ({default})" if default else "")
        group.add_argument(
            f"--{flag}", dest=f"key_{key}", metavar="VALUE", help=text.replace("%", "%%")
        )
    group.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="sets a configuration key"
    )


def _default_of(driver: type[Driver[Any]] | None, key: str) -> str:
    """What a key is by default, if that is something to show."""
    model = None if driver is None else driver.config_model
    field = getattr(model, "model_fields", {}).get(key)
    default = None if field is None or field.is_required() else field.default
    return str(default) if isinstance(default, str | int | float | Path) else ""


def _sources(
    namespace: argparse.Namespace,
    extra: Mapping[str, str],
    socket: str | None = None,
    config: str | None = None,
) -> Sources:
    keys: dict[str, str] = {}
    for item in namespace.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("--set: wants KEY=VALUE")
        keys[key] = value
    for key in extra.values():
        value = getattr(namespace, f"key_{key}")
        if value is not None:
            keys[key] = value
    return Sources(
        flags=given(namespace, SERVER_FLAGS),
        config_flags=keys,
        default_socket=Path(socket) if socket else None,
        default_config=Path(config) if config else None,
    )


def _run(driver: type[Driver[Any]], sources: Sources) -> int:
    settings = load(driver, sources)
    _configure_logs(driver, settings.server)
    built = _build(_switched(driver), settings)
    _services(built)
    if settings.server.socket is None:
        raise ConfigError("--socket is missing")
    from openshell_drivers.server import run

    async def reload() -> None:
        config = load(driver, sources).config
        _require_same_capabilities(built, config)
        await built.reload(config)

    return run(
        built,
        socket=settings.server.socket,
        options=_options(settings.server),
        reload=reload if driver.config_model is not None else None,
    )


def _configure_logs(driver: type[Driver[Any]], server: ServerSettings) -> None:
    from openshell_drivers._logs import configure

    configure(server.log_level, server.log_format, [driver.__module__.partition(".")[0]])


def _switched(driver: type[Driver[Any]]) -> type[Driver[Any]]:
    """Put the test switch before the driver's backend, in a process that was given one."""
    path = test_switch()
    if path is None:
        return driver
    import logging

    from openshell_drivers._switched import switched

    logging.getLogger("openshell_drivers").warning("the test switch is on: for tests only")
    return switched(driver, path)


def _build(driver: type[Driver[Any]], settings: Settings) -> Driver[Any]:
    try:
        return driver() if settings.config is None else driver(settings.config)
    except (ConfigError, DriverError):
        raise
    except Exception as error:  # noqa: BLE001  # an author's constructor may raise anything
        raise ConfigError(f"driver {driver.name!r} cannot be built: {describe(error)}") from None


def _services(driver: Driver[Any]) -> list[Any]:
    from openshell_drivers._serving import services_of

    try:
        return list(services_of(driver))
    except TypeError as error:  # the SDK's own words
        raise ConfigError(str(error)) from None


def _require_same_capabilities(serving: Driver[Any], config: Any) -> None:
    """Refuse a configuration that changes what a gateway compares all the time (COMP01-ADM-03)."""
    from openshell_drivers.compute import ComputeDriver

    if isinstance(serving, ComputeDriver):
        from openshell_drivers._services.compute import capabilities

        if capabilities(serving) != capabilities(type(serving)(config)):
            raise ConfigError("it changes what the driver says of itself, which needs a restart")


def _options(server: ServerSettings) -> Any:
    from openshell_drivers.server import ServerOptions, SocketPolicy

    return ServerOptions(
        socket=SocketPolicy(group=server.socket_group, allowed_uids=server.allowed_uids),
        start_timeout=server.start_timeout,
        call_timeout=server.call_timeout,
        drain_timeout=server.drain_timeout,
        require_handshake=server.require_handshake,
        reflection=server.reflection,
    )


_USAGE: Final = """\
usage: openshell-drivers COMMAND ...

  list              the installed drivers
  run NAME          serve a driver until SIGTERM
  check NAME        read its configuration and say what it would serve, without serving
  schema NAME       the JSON Schema of its configuration
  health            ask a driver at a socket whether it serves; exit status 0 if it does
  call              call a driver at a socket
  gateway           be a gateway at a compute driver's socket and show what its user would see
  verify TARGET     judge whether a driver, in any language, will work under the gateways
  init TARGET       write a conformance profile for a driver, by looking at it
  diff A B          compare two conformance reports
  sweep             remove what interrupted conformance runs have left behind

NAME is a driver's name, a module, module:Class or ./file.py. COMMAND --help tells more.
"""


def _dispatch(arguments: list[str]) -> int:
    command = arguments.pop(0) if arguments else "--help"
    if command in {"-h", "-help", "--help", "help"}:
        print(_USAGE, end="")
        return 0
    if command in {"-version", "--version"}:
        from importlib import metadata

        print(metadata.version("openshell-drivers"))
        return 0
    verb = _VERBS.get(command)
    if verb is None:
        shown = command.partition("=")[0]  # a flag in its place may hold anything
        raise ConfigError(f"there is no command {shown!r}\n{_USAGE}")
    return verb(arguments)


def _find(parser: Parser, arguments: list[str]) -> type[Driver[Any]]:
    if not arguments or arguments[0].startswith("-"):
        if {"-h", "-help", "--help"} & set(arguments):
            parser.print_help()
            sys.exit(0)
        raise ConfigError("which driver? openshell-drivers list shows the installed ones")
    from openshell_drivers.registry import find, is_offered

    name = arguments.pop(0)
    if "" not in sys.path and (":" in name or not is_offered(name)):
        sys.path.insert(0, "")  # a module may be in the directory one works in
    return find(name)


def _verb_list(arguments: list[str]) -> int:
    parser = Parser("openshell-drivers list", "List the installed drivers, importing none.")
    parser.add_argument("--json", action="store_true", help="one JSON array")
    namespace = parser.parse(arguments)
    from openshell_drivers.registry import offers

    found = offers()
    if namespace.json:
        rows = [
            {"name": o.name, "target": o.target, "source": o.source, "problem": o.problem}
            for o in found
        ]
        print(json.dumps(rows))
    for offer in [] if namespace.json else found:
        state = f"broken plugin: {offer.problem}" if offer.problem else offer.target
        print(f"{offer.name:24} {offer.source:32} {state}")
    if not found and not namespace.json:
        print("no driver is installed", file=sys.stderr)
    return 0


def _verb_run(arguments: list[str]) -> int:
    parser = Parser("openshell-drivers run NAME", "Serve a driver until SIGTERM.")
    _add_run_flags(parser)
    driver = _find(parser, arguments)
    return _run(driver, _sources(parser.parse(arguments), {}))


def _verb_check(arguments: list[str]) -> int:
    parser = Parser("openshell-drivers check NAME", "Read the settings; serve nothing.")
    _add_run_flags(parser)
    driver = _find(parser, arguments)
    settings = load(driver, _sources(parser.parse(arguments), {}))
    from openshell_drivers._socket import check_path
    from openshell_drivers._version import driver_version

    services = _services(_build(driver, settings))
    if settings.server.socket is not None:
        check_path(settings.server.socket)
    print(f"driver    {driver.name} {driver_version(driver)}")
    for service in services:
        print(f"service   {service.name}")
    print(f"socket    {settings.server.socket or 'not set'}")
    print("settings  good")
    return 0


def _verb_schema(arguments: list[str]) -> int:
    parser = Parser("openshell-drivers schema NAME", "Print the configuration's JSON Schema.")
    driver = _find(parser, arguments)
    parser.parse(arguments)
    model = driver.config_model
    schema = {"type": "object", "properties": {}} if model is None else model.model_json_schema()
    print(json.dumps(schema, indent=2))
    return 0


def _verb_health(arguments: list[str]) -> int:
    from openshell_drivers import _dialling

    return _dialling.health(arguments)


def _verb_call(arguments: list[str]) -> int:
    from openshell_drivers import _dialling

    return _dialling.call(arguments)


def _verb_gateway(arguments: list[str]) -> int:
    from openshell_drivers import _gateway_cli

    return _gateway_cli.gateway(arguments)


def _verb_verify(arguments: list[str]) -> int:
    from openshell_drivers.conformance.cli import verify

    return verify.verify(arguments)


def _verb_init(arguments: list[str]) -> int:
    from openshell_drivers.conformance.cli import init

    return init.init(arguments)


def _verb_diff(arguments: list[str]) -> int:
    from openshell_drivers.conformance.cli import diff

    return diff.diff(arguments)


def _verb_sweep(arguments: list[str]) -> int:
    from openshell_drivers.conformance.cli import sweep

    return sweep.sweep(arguments)


_VERBS: Final[Mapping[str, Callable[[list[str]], int]]] = {
    "list": _verb_list,
    "run": _verb_run,
    "check": _verb_check,
    "schema": _verb_schema,
    "health": _verb_health,
    "call": _verb_call,
    "gateway": _verb_gateway,
    "verify": _verb_verify,
    "init": _verb_init,
    "diff": _verb_diff,
    "sweep": _verb_sweep,
}
