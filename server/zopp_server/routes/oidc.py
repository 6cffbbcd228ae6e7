"""CI jobs: a token of GitHub or GitLab registers a short-lived key that acts for a service (policy-server.md §3.3)."""

from __future__ import annotations

from zopp_server.calls import Answer, Call, Refusal
from zopp_server.service import Service


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/oidc/WS`."""
    raise Refusal("denied", "this server trusts no issuer")
