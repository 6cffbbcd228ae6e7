"""Releases: asking the policy server for the file keys of group-2 stanzas (brokered-grants.md §4).

The client's side of §4.4, in its order: the policy head of the answer descends from what this clone has verified, every
receipt is of this very request and under a log that extends the kept one (A22), the keys are sealed to this principal
and belong to the released stanzas. Shares, commitments and MACs come after that, in `repo.unlock`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zopp.client import ci, lines
from zopp.client.connect import Log, log_of, server_of
from zopp.client.transport import Server, idem
from zopp.errors import Denied, FormatError, IntegrityError, NotFound, Unknown, ZoppError
from zopp.keys import signing
from zopp.policy import decisions
from zopp.policy.roles import Role
from zopp.policy.state import State
from zopp.protocol import release
from zopp.protocol.release import Item, Request, Response
from zopp.repo import userdirs
from zopp.repo.brokered import Stanza
from zopp.repo.environment import people_name
from zopp.repo.signer import CI_NEEDS, Signer, reader
from zopp.repo.unlock import Keyring
from zopp.repo.workspace import Workspace
from zopp.tlog import proof
from zopp.tlog.entry import Entry


class Releases:
    """A `repo.brokered.Releaser` over HTTP. One signing key and one idea of the server's clock for the whole command;
    `ask` is called with the source of a protected signing key. Without a signing key a CI job registers one (`ci`)."""

    def __init__(self, keyring: Keyring, ask: Callable[[str], str] | None = None) -> None:
        self._keyring = keyring
        self._ask = ask
        self._signer: Signer | None = None
        self._server: Server | None = None
        self._job: ci.Job | None = None

    def __call__(self, ws: Workspace, scope: str, purpose: str, items: Sequence[Stanza], /) -> list[bytes]:
        """The file keys, all or none. IntegrityError `server.none` where the policy names no server."""
        if self._signer is None:
            self._begin(ws, scope)
        try:
            return self._ask_server(ws, scope, purpose, items)
        except Denied as exc:
            if exc.code != "bad_signature" or self._job is None or not self._job.kept:
                raise
        # The kept key has ended before its time: with its rule, its service, or the server's database.
        self._begin(ws, scope, spent=self._job.key.public)
        return self._ask_server(ws, scope, purpose, items)

    def _ask_server(self, ws: Workspace, scope: str, purpose: str, items: Sequence[Stanza]) -> list[bytes]:
        assert self._signer is not None
        assert self._server is not None
        try:
            log = log_of(ws.state, userdirs.state(ws.env))
            return self._asked(ws, log, self._signer, self._server, scope, purpose, items)
        finally:
            self._server.close()

    def warm(self, ws: Workspace) -> None:
        """Open what a passphrase protects, while somebody can be asked; nothing is sent."""
        who = reader(ws, self._ask)
        if who is not None:
            list(self._keyring.matching([ws.state.principals[who.principal].recipient]))

    def _begin(self, ws: Workspace, scope: str, spent: bytes | None = None) -> None:
        """Settle who asks, and whom. IntegrityError `server.none`."""
        who = reader(ws, self._ask)
        if who is None:
            counter = self._counter(ws, scope)
            self._job = ci.job(ws.env, counter, spent=spent)
            assert counter.service is not None
            who = Signer(counter.service, self._job.key)
        self._server = server_of(ws.state, who.key, ws.env)
        self._signer = who

    def _counter(self, ws: Workspace, scope: str) -> ci.Counter:
        """Which service this job is: one whose age identity is here, by choice one that a rule is for and that may read
        the environment. The server decides by the policy that it has, which may be newer."""
        state = ws.state
        mine = self._keyring.recipients()
        services = [p for p in state.principals.values() if p.user is None and p.enabled and p.recipient in mine]
        if not services:
            raise Unknown(
                f"no age identity here belongs to a service of workspace {state.name}, as a CI job needs it",
                code="ci.service",
                hint=CI_NEEDS,
            )
        ruled = {rule.service for rule in state.oidc_rules.values()}
        service = min(services, key=lambda p: (p.name not in ruled, state.role(p.name, scope) < Role.READ))

        def check(made: Entry, server: Server) -> None:
            now = check_seq(ws, server, made.policy_seq or 0)
            rule = now.oidc_rules.get(made.data["rule"] or "")
            good = rule is not None and decisions.oidc_matches(rule, made.data["issuer"], made.data["claims"])
            if rule is None or not good or rule.service != service.name:
                raise IntegrityError(
                    "the server registered this job by a rule that the policy does not have", code="ci.rule",
                    place=server.origin,
                )  # fmt: skip

        # `server.none` comes before any token is asked for
        origin = server_of(state, signing.generate(), ws.env).origin
        return ci.Counter(
            origin=origin,
            workspace=state.name,
            recipient=service.recipient,
            service=service.name,
            rules=tuple(rule for rule in state.oidc_rules.values() if rule.service == service.name),
            log=log_of(state, userdirs.state(ws.env)),
            connect=lambda key: server_of(state, key, ws.env),
            check=check,
        )

    def _asked(
        self,
        ws: Workspace,
        log: Log,
        who: Signer,
        server: Server,
        scope: str,
        purpose: str,
        items: Sequence[Stanza],
    ) -> list[bytes]:
        kept = log.kept()
        request = Request(
            ws=ws.state.ws,
            env=scope,
            purpose=purpose,
            size=kept.size if kept else 0,
            idem=idem(),
            items=tuple(Item(each.share, each.body, each.path or None) for each in items),
        )
        try:
            body = release.build_request(request)
        except FormatError as exc:
            if exc.code != "too_large" or len(items) < 2:
                raise
            half = len(items) // 2  # long paths: 32 KiB is what one audit entry holds
            first = self._asked(ws, log, who, server, scope, purpose, items[:half])
            return first + self._asked(ws, log, who, server, scope, purpose, items[half:])
        try:
            answer = server.post(f"/v1/releases/{ws.state.name}", body)
        except ZoppError as exc:
            raise _refused(ws.state, who.principal, scope, items, exc, job=self._job is not None) from None
        response = release.parse_response(answer.body)
        check_head(ws, server, response)
        recipient = ws.state.principals[who.principal].recipient
        accepted = release.accept(
            response,
            request,
            log.current,
            sent=answer.sent,
            body=body,
            kept=kept,
            identities=list(self._keyring.matching([recipient])),
            recipient=recipient,
        )
        if accepted.checkpoint is not None:
            receipt = next(each.receipt for each in response.results if each.receipt is not None)
            log.advance(proof.parse(receipt.proof).note)
        keys = []
        for item, key, reason in zip(items, accepted.keys, accepted.reasons, strict=True):
            if key is None and reason is not None:
                why = f"the policy server says no ({reason})"
                raise _denied(ws.state, who.principal, scope, why, job=self._job is not None)
            if key is None:
                raise _unmatched(scope, item)
            keys.append(key.key)
        return keys


def check_head(ws: Workspace, server: Server, response: Response) -> None:
    """§4.4, point 1: the policy head that the server decided under is that of this clone, or descends from it and from
    what the clone remembers. IntegrityError `policy.behind`, `policy.fork`."""
    state = check_seq(ws, server, response.policy_seq)
    on_chain = state.hash_at(response.policy_seq) == response.policy_hash
    if ws.pin is not None and ws.pin.seq <= state.seq:
        on_chain = on_chain and state.hash_at(ws.pin.seq) == ws.pin.head
    if not on_chain:
        raise IntegrityError(
            "the policy server decided under another policy log than the one that this clone has verified",
            code="policy.fork",
            place=server.origin,
            hint="compare the head with a colleague: zopp policy show",
        )


def check_seq(ws: Workspace, server: Server, seq: int) -> State:
    """The policy that the server decided under, from its own lines where this clone has not so many. IntegrityError
    `policy.behind` if it decided under less than this clone has seen."""
    state = ws.state
    oldest = max(state.seq, ws.pin.seq if ws.pin is not None else 0)
    if seq < oldest:
        raise IntegrityError(
            f"the policy server decided under statement {seq}, and this clone has seen {oldest}: "
            "it was rolled back, or the policy here was never sent to it",
            code="policy.behind",
            place=server.origin,
            hint="compare with a colleague; what was not sent yet goes with: zopp policy push",
        )
    return lines.catch_up(server, state, seq)


def _refused(
    state: State, principal: str, scope: str, items: Sequence[Stanza], exc: ZoppError, *, job: bool
) -> ZoppError:
    """A refusal of the whole request, with the environment named."""
    if isinstance(exc, Denied) and exc.code == "denied":
        return _denied(state, principal, scope, exc.message, job=job)
    if isinstance(exc, NotFound) and exc.code == "unmatched":
        return _unmatched(scope, items[0])
    if isinstance(exc, Unknown):
        lost = "; if it is lost, whoever holds the break-glass key can open it" if state.envs[scope].break_glass else ""
        return Unknown(
            f"{people_name(scope)} is brokered, and {exc.message}",
            code=exc.code,
            place=exc.place,
            hint=(exc.hint or "run the command again") + lost,
        )
    return exc


def _denied(state: State, principal: str, scope: str, why: str, *, job: bool) -> Denied:
    shown = people_name(scope)
    who = state.principals[principal].holder if principal in state.principals else principal
    hint = f"ask an admin of {shown} to run: zopp grant {who} read {shown}"
    if job and state.envs[scope].protected and state.role(principal, scope) >= Role.READ:
        hint = f"{shown} is protected: the job's rule has to name its environment or workflow: zopp principal ci-rules"
    return Denied(
        why if shown in why else f"{shown}: {why}",
        code="denied",
        subject=principal,
        action="read",
        scope=shown,
        missing="read",
        hint=hint,
    )


def _unmatched(scope: str, item: Stanza) -> IntegrityError:
    return IntegrityError(
        f"no key that the policy server has for {people_name(scope)} opens its half",
        code="release.unmatched",
        place=item.path,
        hint="the file may be another environment's, or the server lost its keys; restore it from git, "
        "or open it with the break-glass key",
    )
