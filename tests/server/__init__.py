"""The policy server, on a real Postgres."""
