"""By what sandboxes are known, and whose they are."""

from __future__ import annotations

import os
import secrets
from typing import Any

from tests.conformance.bare.driver import Driver
from tests.conformance.bare.errors import InvalidArgument, NotFound, Refusal
from tests.conformance.bare.faults._tools import fault, override


def named(driver: Driver, name: str) -> str:
    """The id of the oldest sandbox of a name; empty if there is none."""
    found = [each for each in driver.observer.view.values() if each.name == name]
    return found[0].id if found else ""


def by_name_first(driver: Driver, method: str) -> None:
    """Let a method find by name, and by id only where nobody has the name."""

    @override(driver.compute, method)
    async def _(original: Any, request: Any) -> Any:
        request.sandbox_id = named(driver, request.name) or request.sandbox_id
        return await original(request)


def falls_back(driver: Driver, method: str) -> None:
    """Let a method find by name where nobody has the id."""

    @override(driver.compute, method)
    async def _(original: Any, request: Any) -> Any:
        if driver.compute.find(request.sandbox_id) is None:
            request.sandbox_id = named(driver, request.name) or request.sandbox_id
        return await original(request)


@fault("get-unknown-is-ok", kills=("COMP-GET-01",))
def _(driver: Driver) -> None:
    """An unknown id is answered with an empty OK."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except NotFound:
            return driver.compute.messages.GetSandboxResponse()


@fault("get-unknown-is-invalid", kills=("COMP-GET-01",))
def _(driver: Driver) -> None:
    """An unknown id is taken for a malformed one."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        try:
            return await original(request)
        except NotFound as error:
            raise InvalidArgument(error.message) from None


@fault("get-falls-back-to-the-name", kills=("COMP-GET-02",))
def _(driver: Driver) -> None:
    """Get of an unknown id gives the sandbox of that name."""
    falls_back(driver, "get_sandbox")


@fault("foreign-objects-are-listed", kills=("COMP-LIST-03",))
def _(driver: Driver) -> None:
    """What others made on the platform is taken for the driver's own."""

    @override(driver.observer, "mine")
    def _(_original: Any, _resource: Any) -> bool:
        return True


@fault(
    "names-are-the-platforms",
    kills=("COMP-GET-03.a", "COMP-GET-03.b", "COMP-GET-03.c", "COMP-GET-03.d"),
)
def _(driver: Driver) -> None:
    """Sandboxes are shown with the name of the platform's object."""

    @override(driver.snapshots, "name")
    def _(_original: Any, resource: Any) -> str:
        return f"bare-{resource.name}"


@fault("list-shows-other-names", kills=("COMP-GET-03.b",))
def _(driver: Driver) -> None:
    """The list alone shows the names of the platform's objects."""

    @override(driver.compute, "listed")
    def _(original: Any, resource: Any) -> Any:
        made = original(resource)
        made.name = f"bare-{resource.name}"
        return made


@fault("watch-shows-other-names", kills=("COMP-GET-03.c",))
def _(driver: Driver) -> None:
    """The watch alone shows the names of the platform's objects."""

    @override(driver.compute, "told")
    def _(original: Any, note: Any) -> Any:
        made = original(note)
        if made is not None and made.HasField("sandbox"):
            made.sandbox.sandbox.name = f"bare-{made.sandbox.sandbox.name}"
        return made


@fault("long-names-are-cut", kills=("COMP-GET-03.d",))
def _(driver: Driver) -> None:
    """Names are cut at fifteen characters."""

    @override(driver.snapshots, "name")
    def _(original: Any, resource: Any) -> str:
        return str(original(resource))[:15]


@fault("get-nothing-is-not-found", kills=("COMP-GET-06.a",))
def _(driver: Driver) -> None:
    """Neither id nor name is not taken for a mistake."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if not request.sandbox_id:
            raise NotFound("there is no sandbox with this id")
        return await original(request)


@fault("get-without-id-gives-any", kills=("COMP-GET-06.b",))
def _(driver: Driver) -> None:
    """A name alone gives the newest sandbox, whatever its name is."""

    @override(driver.compute, "get_sandbox")
    async def _(original: Any, request: Any) -> Any:
        if request.name and not request.sandbox_id:
            others = [each for each in driver.observer.view.values() if each.name != request.name]
            made = driver.snapshots.of(others[-1]) if others else None
            return driver.compute.messages.GetSandboxResponse(sandbox=made)
        return await original(request)


@fault("names-are-global", kills=("COMP-IN-02.a",))
def _(driver: Driver) -> None:
    """A name that a sandbox of another workspace has is refused."""

    @override(driver.compute, "make")
    async def _(original: Any, sandbox: Any) -> Any:
        for each in driver.platform.resources.all():
            if each.name == sandbox.name and each.workspace != sandbox.workspace:
                raise InvalidArgument("the name is taken")
        return await original(sandbox)


@fault("stop-is-by-name", kills=("COMP-IN-02.b", "COMP-IN-02.d", "COMP01-IN-05.b"))
def _(driver: Driver) -> None:
    """A stop finds by name."""
    by_name_first(driver, "stop_sandbox")


@fault("start-is-by-name", kills=("COMP-IN-02.f",))
def _(driver: Driver) -> None:
    """A start finds by name."""
    by_name_first(driver, "start_sandbox")


@fault(
    "delete-is-by-name",
    kills=("COMP-IN-02.c", "COMP-IN-02.e", "COMP01-IN-05.d"),
    also=("COMP-DEL-08",),
)
def _(driver: Driver) -> None:
    """A delete finds by name."""
    by_name_first(driver, "delete_sandbox")


@fault("stop-falls-back-to-the-name", kills=("COMP-IN-02.d",))
def _(driver: Driver) -> None:
    """A stop of an unknown id stops the sandbox of that name."""
    falls_back(driver, "stop_sandbox")


@fault("start-falls-back-to-the-name", kills=("COMP-IN-02.f",))
def _(driver: Driver) -> None:
    """A start of an unknown id starts the sandbox of that name."""
    falls_back(driver, "start_sandbox")


@fault("delete-falls-back-to-the-name", kills=("COMP-IN-02.e",), also=("COMP-DEL-08",))
def _(driver: Driver) -> None:
    """A delete of an unknown id deletes the sandbox of that name."""
    falls_back(driver, "delete_sandbox")


@fault(
    "names-must-fit-the-id",
    kills=("COMP01-IN-05.a", "COMP01-IN-05.b", "COMP01-IN-05.c", "COMP01-IN-05.d"),
)
def _(driver: Driver) -> None:
    """An id with another name than its own is not found."""
    for method in ("get_sandbox", "stop_sandbox", "start_sandbox", "delete_sandbox"):

        @override(driver.compute, method)
        async def _(original: Any, request: Any) -> Any:
            found = driver.compute.find(request.sandbox_id)
            if found is not None and found.name != request.name:
                request.sandbox_id = f"not-{secrets.token_hex(8)}"
            return await original(request)


@fault("authentication-is-promised-only", kills=("COMP01-AUTH-01",))
def _(driver: Driver) -> None:
    """AuthenticateSandbox is claimed and missing."""
    compute: Any = driver.compute
    compute.authenticate_sandbox = None


@fault("authentication-is-not-promised", kills=("COMP01-AUTH-01",))
def _(driver: Driver) -> None:
    """AuthenticateSandbox is there, and not claimed."""
    driver.compute.authenticates = False


@fault("half-a-credential-will-do", kills=("COMP01-AUTH-02.a",))
def _(driver: Driver) -> None:
    """Only the part of a credential that names the sandbox is looked at."""

    @override(driver.compute, "owner_of")
    def _(_original: Any, credential: str) -> Any:
        return driver.compute.find(credential.partition(":")[0])


@fault("bad-credentials-are-internal-errors", kills=("COMP01-AUTH-02.a",), also=("COMP01-AUTH-02",))
def _(driver: Driver) -> None:
    """A credential that nobody has breaks the driver's own code."""

    @override(driver.compute, "owner_of")
    def _(original: Any, credential: str) -> Any:
        found = original(credential)
        if found is None:
            raise Refusal("no owner")
        return found


@fault("credentials-outlive-their-sandbox", kills=("COMP01-AUTH-02.b",))
def _(driver: Driver) -> None:
    """A credential that was once good is good for ever."""
    good: dict[str, Any] = {}

    @override(driver.compute, "owner_of")
    def _(original: Any, credential: str) -> Any:
        found = original(credential) or good.get(credential)
        if found is not None:
            good[credential] = found
        return found


@fault("authentication-knows-another-identity", kills=("COMP01-AUTH-03.a", "COMP01-AUTH-03.b"))
def _(driver: Driver) -> None:
    """AuthenticateSandbox gives the instance, not the durable object."""

    @override(driver.compute, "authenticate_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.runtime_identity += "#1"
        return answer


@fault("start-gives-a-new-identity", kills=("COMP01-AUTH-03.b",))
def _(driver: Driver) -> None:
    """A start gives an identity of its own, of which nobody else knows."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.runtime_identity += f"#{request.generation_id}"
        return answer


@fault("create-gives-no-identity", kills=("COMP01-ID-01.a",))
def _(driver: Driver) -> None:
    """A create does not say what it has made."""

    @override(driver.compute, "create_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.ClearField("runtime_identity")
        return answer


@fault("start-gives-no-identity", kills=("COMP01-ID-01.b",))
def _(driver: Driver) -> None:
    """A start does not say what it has started."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.ClearField("runtime_identity")
        return answer


@fault(
    "each-start-gives-a-new-identity",
    kills=("COMP01-ID-01.c",),
    also=("COMP01-AUTH-03.b", "COMP01-ID-01.d"),
)
def _(driver: Driver) -> None:
    """Every start gives another identity, also of the same generation."""

    @override(driver.compute, "start_sandbox")
    async def _(original: Any, request: Any) -> Any:
        answer = await original(request)
        answer.runtime_identity += f"#{secrets.token_hex(4)}"
        return answer


@fault("identity-is-of-the-process", kills=("COMP01-ID-01.d",))
def _(driver: Driver) -> None:
    """After a restart of the driver everything has another identity."""

    @override(driver.snapshots, "runtime_identity")
    def _(original: Any, resource: Any) -> str:
        return f"{original(resource)}#{os.getpid()}"


@fault("expected-identity-is-ignored", kills=("COMP01-ID-02",))
def _(driver: Driver) -> None:
    """A start takes whatever object is there."""

    @override(driver.compute, "judge_expected")
    def _(_original: Any, _found: Any, _expected: str) -> None:
        return
