"""The policy server's client: transport, policy log and receipts, releases, audit, the bridges for stock sops.

Everything an answer says is checked here before it is used: the server is trusted for availability and nothing else.
Who signs and what is remembered comes from `repo`'s callers; this package never looks for a repository.
"""
