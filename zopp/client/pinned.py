"""An environment as a tool outside any working copy knows it: a line in the user's own key file, and releases by it.

`AGE-PLUGIN-ZOPP-1…` names server, log key, workspace, genesis and environment; it holds no secret. It is trust, like a
pin: `zopp env plugin-identity` writes it from a verified policy, and whoever may write the user's key file could do
worse than change it. Receipts are checked against the log key in it and against the checkpoint that this user keeps;
the policy head, the manifest and the commitments are not (brokered-grants.md §13.1): there is no policy log here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zopp.client import ci
from zopp.client.connect import Log
from zopp.client.transport import Server, Tls, idem
from zopp.errors import Denied, FormatError, NotFound, Unknown, ZoppError
from zopp.keys import bech32, find
from zopp.keys.filekey import check_stanza
from zopp.keys.signing import SigningKey
from zopp.policy import canonical, fields as f
from zopp.policy.state import State
from zopp.protocol import release
from zopp.protocol.release import Item, Request
from zopp.repo import userdirs
from zopp.repo.unlock import Keyring
from zopp.tlog import checkpoint, proof
from zopp.tlog.note import Verifier

PREFIX = "age-plugin-zopp-"
_FIELDS = f.record(
    {"env": f.ENV, "genesis": f.HEX32, "key": f.KEY, "origin": f.ORIGIN, "v": f.integer(1, 1), "ws": f.NAME}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """`origin` and `log_key` (32 bytes) as in `server.set`, `workspace` by name, `genesis` in hex, `env` as in
    statements."""

    origin: str
    log_key: bytes
    workspace: str
    genesis: str
    env: str

    def line(self) -> str:
        """The identity line."""
        data = canonical.encode(
            {
                "env": self.env,
                "genesis": self.genesis,
                "key": canonical.b64(self.log_key),
                "origin": self.origin,
                "v": 1,
                "ws": self.workspace,
            }
        )
        return bech32.encode(PREFIX, data).upper()


def parse(line: str) -> Pinned:
    """The environment that an identity line names; FormatError for anything else."""
    data = bech32.decode(PREFIX, line.lower()) if line.isascii() and line == line.upper() else None
    problems: list[f.Problem] = []
    value = None
    if data is not None:
        try:
            value = canonical.decode(data)
        except FormatError:
            value = None
        _FIELDS.check(value, "identity", problems)
    if value is None or problems:
        raise FormatError("not an AGE-PLUGIN-ZOPP-1… identity of this version", code="plugin_identity")
    return Pinned(
        origin=value["origin"],
        log_key=canonical.unb64(value["key"], 32),
        workspace=value["ws"],
        genesis=value["genesis"],
        env=value["env"],
    )


def of(state: State, scope: str) -> Pinned | None:
    """The line of a brokered environment of a verified policy; None where no server is named."""
    server = state.server
    if server is None:
        return None
    return Pinned(origin=server.origin, log_key=server.log_key, workspace=state.name, genesis=state.ws, env=scope)


class Asker:
    """Releases for one user outside a working copy. `ask` is called with the source of a protected key."""

    def __init__(self, env: Mapping[str, str], ask: Callable[[str], str] | None = None) -> None:
        self._env = env
        self._ask = ask
        self._keyring = Keyring(env, ask)

    def ours(self, share: bytes, body: bytes) -> bool:
        """Whether the stanza is for a ready key of the user's own: it is not the server's to open."""
        keys = (identity.x25519 for identity in self._keyring.found.identities)
        return any(key is not None and key.open(share, body) is not None for key in keys)

    def file_keys(self, pinned: Pinned, stanzas: Sequence[tuple[bytes, bytes]]) -> list[bytes | None]:
        """The file key of each stanza (share, body), None for those that no key of the environment opens. Denied naming
        the environment, Unknown if nobody answers or there is neither a signing key nor a CI job's token,
        IntegrityError if the answer does not hold."""
        for share, body in stanzas:
            check_stanza(share, body)
        signer = find.signing_key(self._env, userdirs.config(self._env), self._ask)
        job = signer.key is None and not signer.problems and bool(find.token_source(self._env))
        if signer.key is None and not job:
            looked = "; ".join(f"{source}: {outcome}" for source, outcome in signer.tried) or "nothing"
            raise Unknown(f"no signing key (tried {looked})", code="signing_key.none", hint="zopp doctor")
        origin = checkpoint.origin_of(pinned.origin, pinned.workspace, pinned.genesis)
        log = Log(pinned.genesis, userdirs.state(self._env), (Verifier(origin, pinned.log_key),))
        if signer.key is not None:
            return self._asked(pinned, log, signer.key, stanzas)
        made = ci.job(self._env, self._counter(pinned, log))
        try:
            return self._asked(pinned, log, made.key, stanzas)
        except Denied as exc:
            if exc.code != "bad_signature" or not made.kept:
                raise
        made = ci.job(self._env, self._counter(pinned, log), spent=made.key.public)
        return self._asked(pinned, log, made.key, stanzas)

    def _counter(self, pinned: Pinned, log: Log) -> ci.Counter:
        """Where a CI job registers, as the first age identity here: no policy says which of several is the service's,
        nor whether a rule has an audience of its own."""
        recipients = [i.recipient for i in self._keyring.found.identities if i.recipient.startswith("age1")]
        if not recipients:
            raise Unknown("no age identity of a service is here, as a CI job needs it", code="ci.service")
        return ci.Counter(
            origin=pinned.origin,
            workspace=pinned.workspace,
            recipient=recipients[0],
            service=None,
            rules=(),
            log=log,
            connect=lambda key: Server(pinned.origin, pinned.log_key, key, tls=Tls.of(self._env)),
            check=lambda entry, server: None,
        )

    def _asked(
        self, pinned: Pinned, log: Log, key: SigningKey, stanzas: Sequence[tuple[bytes, bytes]]
    ) -> list[bytes | None]:
        kept = log.kept()
        request = Request(
            ws=pinned.genesis,
            env=pinned.env,
            purpose="read",
            size=kept.size if kept else 0,
            idem=idem(),
            items=tuple(Item(share, body) for share, body in stanzas),
        )
        asked = release.build_request(request)
        with Server(pinned.origin, pinned.log_key, key, tls=Tls.of(self._env)) as server:
            try:
                answer = server.post(f"/v1/releases/{pinned.workspace}", asked)
            except NotFound as exc:
                if exc.code != "unmatched":
                    raise
                return [None] * len(stanzas)
            except ZoppError as exc:
                if pinned.env not in exc.message:
                    exc.message = f"{pinned.env}: {exc.message}"
                raise
        response = release.parse_response(answer.body)
        accepted = release.accept(
            response,
            request,
            log.current,
            sent=answer.sent,
            body=asked,
            kept=kept,
            identities=[*self._keyring.found.identities, *self._keyring.found.more(self._ask)],
        )
        if accepted.checkpoint is not None:
            receipt = next(each.receipt for each in response.results if each.receipt is not None)
            log.advance(proof.parse(receipt.proof).note)
        return [None if key is None else key.key for key in accepted.keys]
