"""`run_verb`: one of the commands of a profile, with JSON in and JSON out."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any


class VerbFailed(Exception):
    """A verb did not do what it is there for. The text says how."""


async def run_verb(  # a process has that many sides
    verb: str,
    command: str | list[str],
    words: Mapping[str, Any],
    fill: Callable[[str], str],
    environment: Mapping[str, str],
    timeout: float,
) -> dict[str, Any]:
    """Run a verb to its end and give its answer. Raises `VerbFailed`."""
    argv = shlex.split(command) if isinstance(command, str) else command
    try:
        process = await asyncio.create_subprocess_exec(
            *(fill(word) for word in argv),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise VerbFailed(f"the verb {verb} cannot be started: {error.strerror}") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(json.dumps(words).encode()), timeout)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise VerbFailed(f"the verb {verb} took longer than {timeout:g} s") from None
    if process.returncode:
        said = err.decode("utf-8", "replace").strip()[-300:]
        raise VerbFailed(f"the verb {verb} ended with status {process.returncode}: {said}")
    try:
        answer = json.loads(out or b"{}")
    except ValueError:
        raise VerbFailed(f"the verb {verb} did not answer JSON") from None
    if not isinstance(answer, dict):
        raise VerbFailed(f"the verb {verb} did not answer a JSON object")
    return answer
