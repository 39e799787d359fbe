"""``python -m tests.conformance.bare.verbs --state FILE --switch FILE VERB``.

Speaks to the simulated platform, not to the driver: JSON on standard input, JSON on standard
output. Works on the file whether a driver runs or not; a running driver finds what has changed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.conformance.bare.ledger import Ledger
from tests.conformance.bare.resources import RUNNING, Resource, Resources
from tests.conformance.bare.switch import Switch


class Unknown(Exception):
    """There is nothing to do it to."""


class Verbs:
    """One method for each verb: takes the object of its input and gives that of its output."""

    def __init__(self, state: Path, switch: Path) -> None:
        self.ledger = Ledger(str(state))
        self.resources = Resources(self.ledger)
        self.switch = Switch(switch)

    def outage_begin(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        """Cut the line between driver and platform, token issuer and vault included."""
        self.switch.write(outage=True)
        return {}

    def outage_end(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        self.switch.write(outage=False)
        return {}

    def slow(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Let every access take ``seconds``."""
        self.switch.write(delay=float(given["seconds"]))
        return {}

    def fast(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        self.switch.write(delay=0)
        return {}

    def list_resources(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        """All that there is, in any state, foreign things too."""
        return {"resources": [each.id for each in self.resources.all()]}

    def remove(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Remove a sandbox behind the driver's back."""
        self.resources.remove(self._expect(given).id)
        return {}

    def environment(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the workload was given: environment, command, tty, labels and the like."""
        return self.resources.workload(self._expect(given).id) or {}

    def credential(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the sandbox would show to AuthenticateSandbox."""
        return {"credential": self.resources.credential(self._expect(given))}

    def exit_main(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Let the main process end by itself."""
        found = self._expect(given)
        if found.state != RUNNING:
            raise Unknown("its main process does not run")
        self.resources.exit_main(found.id)
        return {}

    def foreign(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        """Make something on the platform that is not the driver's."""
        made = f"foreign-{secrets.token_hex(4)}"
        self.resources.create_foreign(made)
        return {"id": made}

    def instance(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """How often it was started."""
        found = self._expect(given)
        return {"starts": found.instance, "state": found.state}

    def fetches(self, _given: Mapping[str, Any]) -> dict[str, Any]:
        """How many tokens the issuer has minted, by name."""
        return {"fetches": self.ledger.fetches()}

    def _expect(self, given: Mapping[str, Any]) -> Resource:
        found = self.resources.get(str(given["id"]))
        if found is None:
            raise Unknown("there is no resource with this id")
        return found


VERBS: Final = sorted(name for name in vars(Verbs) if not name.startswith("_"))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bare.verbs", allow_abbrev=False)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--switch", type=Path, required=True)
    parser.add_argument("verb", choices=VERBS)
    found = parser.parse_args(arguments)
    text = sys.stdin.read()
    try:
        given = json.loads(text) if text.strip() else {}
        verb: Callable[[Mapping[str, Any]], dict[str, Any]]
        verb = getattr(Verbs(found.state, found.switch), found.verb)
        answer = verb(given)
    except (Unknown, KeyError, TypeError, ValueError) as error:
        sys.stderr.write(f"bare.verbs: {type(error).__name__}: {error}\n")
        return 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
