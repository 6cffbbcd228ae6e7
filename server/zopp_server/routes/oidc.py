"""CI jobs: a token of GitHub or GitLab registers a short-lived key that acts for a service (policy-server.md §3.3).

The request is signed by the new key, which proves that the job holds it; for GitHub the token names that key too. What
is registered signs requests until the token ends and receives nothing: answers are sealed to the service's recipient.
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

from zopp.errors import Unknown, ZoppError
from zopp.policy import canonical, fields as f
from zopp.policy.names import Scope
from zopp.protocol import messages, signing
from zopp_server import oidc
from zopp_server.auth import Caller, CiPrincipal, bad_signature
from zopp_server.batcher import Context, Decided, Job, bucket_of
from zopp_server.calls import DECISION_SECONDS, Answer, Call, Refusal
from zopp_server.entries import Draft, draft
from zopp_server.oidc import Refused, Seen, Verified
from zopp_server.service import Service
from zopp_server.workspaces import Workspace

_NEXT = "compare the job's claims with the rule: zopp policy show"


@dataclass(frozen=True, slots=True)
class _Job:
    """A registration under way."""

    id: str
    key: bytes
    presented: signing.Presented
    addr: str | None


async def post(service: Service, call: Call) -> Answer:
    """`POST /v1/oidc/WS`."""
    service.gate.stranger(call.addr)
    fields = messages.parse_request("oidc", call.body)
    key = f.public_key(fields["key"])
    target = signing.target_uri(service.origin, call.path, call.query)
    presented = signing.read(call.fields, method=call.method, target=target, body=call.body)
    try:
        signing.verify(presented, key)
        signing.check_fresh(presented, now=int(service.now()))
    except ZoppError:
        service.gate.failed(call.addr)
        raise Refusal("bad_signature", bad_signature().message) from None
    workspace = await service.workspace(call.ws)
    # S43: without a rule for this recipient the answer depends on the token alone, not on whether there is a workspace
    rules = []
    if workspace is not None and workspace.log == fields["ws"]:
        rules = oidc.rules_for(workspace.state, fields["recipient"])
    job = _Job(base64.b32encode(os.urandom(10)).decode().lower(), key, presented, call.addr)
    try:
        who = oidc.peek(fields["jwt"])
        if service.jwks is None:
            raise Refused("issuer")
        keys = await service.jwks.keys(who.issuer, who.kid)
        verified = oidc.validate(
            fields["jwt"], rules, keys, int(service.now()), service.origin, key, fields["recipient"]
        )
    except Refused as exc:
        if exc.seen is None or workspace is None or not rules:
            service.gate.failed(call.addr)
        else:
            await _record_denied(service, workspace, job, exc.seen, exc.reason, exc.rule)
        raise _denied(exc.reason, None) from None
    assert workspace is not None
    return await _register(service, workspace, job, verified, fields["recipient"])


def _denied(reason: str, id: bytes | None) -> Refusal:
    return Refusal("denied", f"the CI token is refused: {oidc.REASONS[reason]}", {"rule": reason}, id, _NEXT)


async def _record_denied(
    service: Service, workspace: Workspace, job: _Job, seen: Seen, reason: str, rule: str | None
) -> None:
    """A genuine token that is refused has an entry, so many a minute of each issuer; the token's own id is not used up
    by a refusal, the request's nonce is: nothing acts twice."""
    if not service.gate.refused(workspace.name, seen.issuer):
        return

    def decide(now: Workspace | None, context: Context) -> Decided:
        assert now is not None
        _in_time(job, context)
        return Decided([_entry(now, job, seen, rule, seen.exp, None, "deny", reason, context)])

    made = Job(workspace.name, decide, nonces=(_nonce(job.presented),), addr=job.addr)
    await service.within(DECISION_SECONDS, service.batcher.do(made))


def _nonce(presented: signing.Presented) -> tuple[int, str, bytes]:
    return bucket_of(presented.created), presented.keyid, presented.nonce


def _in_time(job: _Job, context: Context) -> None:
    """As `calls.record`: what waited is not recorded as something that `audit verify` does not find fresh."""
    if abs(context.now - job.presented.created * 1000) > signing.WINDOW * 1000:
        raise Unknown("the request waited too long", code="busy")


async def _register(service: Service, workspace: Workspace, job: _Job, verified: Verified, recipient: str) -> Answer:
    rule, seen = verified.rule, verified.seen
    made = CiPrincipal(job.id, rule.service, rule.name, rule.since, job.key, verified.not_after)
    write = (
        # of two at once with one key the first is kept; a conflict must not fail the others' batch
        "INSERT INTO rt.ci_principal VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::bigint), $9)"
        " ON CONFLICT DO NOTHING",
        (
            workspace.name, job.id, rule.service, rule.name, rule.since, signing.fingerprint(job.key), job.key,
            verified.not_after, seen.token_sha256,
        ),
    )  # fmt: skip
    id = os.urandom(16)
    reused = Refusal("refused", "the key is that of a principal or of another job", {"rule": "key_reuse"}, id)
    if await service.ci_jobs(workspace, signing.fingerprint(job.key)) is not None:
        raise reused

    def decide(now: Workspace | None, context: Context) -> Decided:
        assert now is not None
        _in_time(job, context)
        if rule not in oidc.rules_for(now.state, recipient):
            return Decided(
                [_entry(now, job, seen, rule.name, seen.exp, None, "deny", "no_rule", context, id)],
                value=_denied("no_rule", id),
            )
        if now.by_fingerprint(signing.fingerprint(job.key)) is not None:
            return Decided(value=reused)
        entry = _entry(now, job, seen, rule.name, verified.not_after, rule.service, "allow", None, context, id)
        return Decided([entry], writes=[write])

    replay = seen.replay
    nonces = (_nonce(job.presented), (replay.bucket, replay.keyid, replay.nonce))
    recorded = await service.within(
        DECISION_SECONDS, service.batcher.do(Job(workspace.name, decide, nonces=nonces, addr=job.addr))
    )
    if isinstance(recorded.value, Refusal):
        raise recorded.value
    service.remember_job(workspace.name, made)
    body = messages.build_answer(
        "oidc",
        **messages.done_fields(id, recorded.receipts[0], recorded.consistency),
        not_after=verified.not_after,
        principal=f"ci/{job.id}",
    )
    return Answer(status=200, body=body, id=id, caller=f"ci/{job.id}", outcome="accepted")


def _entry(
    workspace: Workspace,
    job: _Job,
    seen: Seen,
    rule: str | None,
    not_after: int,
    service: str | None,
    outcome: str,
    reason: str | None,
    context: Context,
    id: bytes | None = None,
) -> Draft:
    return draft(
        "oidc",
        {
            "claims": dict(seen.claims),
            "issuer": seen.issuer,
            "key": canonical.b64(job.key),
            "kid": seen.kid,
            "not_after": not_after,
            "rule": rule,
            "token": seen.token_sha256.hex(),
        },
        ts=context.now,
        id=id or os.urandom(16),
        outcome=outcome,
        reason=reason,
        actor=f"ci/{job.id}",
        on_behalf=service,
        scope=Scope("workspace", workspace.name),
        policy_seq=workspace.state.seq,
        request=job.presented.request,
    )


__all__ = ["Caller", "post"]
