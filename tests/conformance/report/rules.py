"""Clauses for the reports that tests build: id, profile, level, and what it says."""

from __future__ import annotations

from typing import Final

#: The second check of a clause tries the same thing at another moment.
TWISTS: Final = (
    "also right after a restart",
    "also while another create is under way",
    "also for a sandbox that is stopped",
    "also when asked twice at once",
)

COMPUTE: Final = """
COMP-CAP-01 core MUST capabilities answer at once, without asking the backend
COMP-CAP-02 core MUST the driver has a name and a version
COMP-CAP-03 core SHOULD the default image is an image reference
COMP-VAL-01 core MUST a valid sandbox passes validation without being created
COMP-VAL-02 core MUST a template that cannot work is refused with FAILED_PRECONDITION
COMP-VAL-04 core MUST validation has no side effect
COMP-IN-01 core MUST unknown fields of a later gateway are ignored
COMP-IN-03 core MUST the sandbox's environment reaches its process unchanged
COMP-IN-05 core SHOULD quantities are read as Kubernetes writes them
COMP-CREATE-01 core MUST create returns once the sandbox is accepted, not once it is ready
COMP-CREATE-02 core MUST a second create with the same id is ALREADY_EXISTS
COMP-CREATE-03 core MUST a create that fails leaves nothing behind
COMP-CREATE-05 core MUST equal names in two workspaces do not collide
COMP-GET-01 core MUST an unknown id is NOT_FOUND
COMP-GET-02 core MUST a snapshot carries the gateway's id and name, byte for byte
COMP-GET-03 core SHOULD get answers within a second
COMP-GET-05 resilience MUST an unreachable backend is an error, never NOT_FOUND
COMP-LIST-01 core MUST list holds every sandbox, stopped and deleting ones too
COMP-LIST-02 resilience MUST an unreachable backend is an error, never an empty list
COMP-LIST-04 core MUST no id occurs twice in a list
COMP-STAT-01 core MUST Ready has one of the words True, False, Unknown
COMP-STAT-02 lifecycle MUST a sandbox that is starting gives a reason known as transient
COMP-STAT-04 lifecycle MUST a sandbox is Ready once its process runs
COMP-STAT-07 core INFO transition times come from the platform
COMP-WATCH-01 lifecycle MUST a new watch begins with every sandbox
COMP-WATCH-02 lifecycle MUST headers of a watch are sent at once
COMP-WATCH-04 lifecycle MUST a deletion is told to every open watch
COMP-WATCH-06 lifecycle MUST a watch stays open while nothing happens
COMP-WATCH-09 resilience SHOULD a reader that stalls delays no other
COMP-STOP-01 lifecycle MUST stop returns once the sandbox is stopped
COMP-STOP-03 lifecycle MUST a second stop is OK
COMP-START-01 lifecycle MUST start brings back the same sandbox with its storage
COMP-START-03 lifecycle MUST start of an unknown id is NOT_FOUND
COMP-DEL-01 lifecycle MUST deleted=true is followed by a deleted event
COMP-DEL-02 core MUST deleting what does not exist is OK with deleted=false
COMP-DEL-04 lifecycle MUST delete works while the sandbox is starting
COMP-WS-01 core MUST EnsureWorkspace is idempotent, or UNIMPLEMENTED
COMP-SOCK-04 security SHOULD the socket belongs to its owner alone
COMP-SOCK-06 security MUST a stale socket is replaced, anything else is left alone
COMP-SOCK-08 security SHOULD a peer of another uid is turned away
COMP01-NEG-01 core MUST the driver negotiates the newest version that both know
COMP01-NEG-04 core MUST capabilities that the gateway does not offer are not used
COMP01-ADM-02 core MUST an idempotency key seen before gives the first result
COMP01-LAUNCH-01 core MUST the launch command is passed on without a shell
PROC-FD-01 resilience SHOULD descriptors do not grow with calls
PROC-TERM-01 resilience SHOULD SIGTERM ends the process within five seconds
PROC-KILL-01 resilience MUST after kill -9 a new process shows every sandbox
SEC-LOG-01 security MUST no secret occurs in the log at its most verbose
SEC-ERR-01 security MUST no secret occurs in an error message
SEC-ENV-01 security MUST no secret occurs in an argument list that others may read
PERF-GET-01 performance SHOULD get answers within 20 ms at the 99th percentile
PERF-WATCH-01 performance SHOULD a change reaches 50 watchers within 250 ms
"""

CREDENTIALS: Final = """
CREDF-RES-01 core MUST a known name gives a token that is not empty
CREDF-RES-02 core MUST an unknown name is NOT_FOUND
CREDF-RES-03 core MUST expiry is zero or lies in the future, in seconds
CREDF-RES-04 resilience MUST an issuer that is down is UNAVAILABLE, never an empty token
CREDF-LIST-01 core MUST list names what can be resolved and holds no secret
CREDF-LIST-02 core SHOULD list is sorted by name
CREDF-SOCK-01 security SHOULD the socket belongs to its owner alone
CREDF-EXP-01 lifecycle MUST a token is renewed before it expires
"""

STORE: Final = """
CREDU-CAP-01 core MUST supports_list agrees with ListCredentials
CREDU-STORE-01 core MUST what was stored resolves to the same bytes
CREDU-STORE-03 core MUST an overwrite keeps the old handle valid
CREDU-STORE-05 security MUST handle and metadata hold no secret
CREDU-RES-01 core MUST a batch answers each request once, in any order
CREDU-RES-02 core MUST one item that cannot be resolved fails the call
CREDU-RES-03 security MUST equal keys of two workspaces never cross
CREDU-DEL-01 core MUST what was deleted does not resolve
CREDU-DEL-02 core MUST a second delete is OK
CREDU-CON-01 resilience MUST concurrent stores of one key do not mix
CREDU01-EXP-01 core SHOULD expires_at is sent as a timestamp
CREDU01-NEG-01 core MUST the driver negotiates the newest version that both know
"""
