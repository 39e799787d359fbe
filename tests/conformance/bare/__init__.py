"""A reference driver on bare grpcio: every service, correct by the contract, nothing of the SDK.

It is the second norm of the conformance suite, so that a mistake of the SDK cannot become the
first, and the body of its mutants: `faults` changes one decision of it at a time. Behind it stands
a simulated platform; `verbs` speaks to that platform behind the driver's back.
"""
