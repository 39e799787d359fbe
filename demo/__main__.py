"""``python -m demo``. Starts everything it needs on this machine and leaves nothing running."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `main` there is nothing to clean up
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from demo import compute, credentials  # noqa: E402
from demo.story import STOPPER, Stopped, say  # noqa: E402


def main() -> int:
    STOPPER.listen()
    try:
        say(
            "OpenShell runs AI agents in sandboxes. Its gateway starts no sandbox and fetches no\n"
            "token itself: it asks drivers, small servers on a Unix socket in the same pod. These\n"
            "are two such drivers: one for sandboxes, one for tokens."
        )
        with tempfile.TemporaryDirectory(prefix="openshell-demo-") as scratch:
            tempfile.tempdir = scratch  # for whatever else makes temporary files
            compute.show(Path(scratch))
            credentials.show(Path(scratch))
        say("\nNothing is left running. The README says how to write a driver of your own.")
    except Stopped:
        print("\nStopped. Nothing is left running.")
        return 128 + (STOPPER.number or 0)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
