"""Proof of the suite: what each check finds, what it lets pass, on the bare reference driver."""
