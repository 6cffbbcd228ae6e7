"""Every workspace as this process has verified it: the fold of its lines, its server keys, its tree.

Decisions come from here and never from the projection tables: SQL on `policy.binding` grants nothing. Under the lock of
the log's head a workspace is brought up to what the database has (another replica may have gone on); outside it the
state may be a moment old, which is why everything that counts is decided again under the lock.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import asyncpg

from zopp.errors import IntegrityError, ZoppError
from zopp.keys.filekey import PrivateKey
from zopp.policy import log as policy_log
from zopp.policy.state import State
from zopp.protocol import signing
from zopp.tlog import checkpoint
from zopp_server import custody
from zopp_server.custody import Dek, Kek
from zopp_server.tree import TileCache, Tree


@dataclass(slots=True)
class ServerKey:
    """One generation of an environment's server key; `private` None if it was destroyed."""

    generation: int
    recipient: str
    private: PrivateKey | None


@dataclass(slots=True)
class Workspace:
    """`name` as in URLs, `log` the genesis hash, which is also the log's id; `origin` its log's origin line."""

    name: str
    log: str
    origin: str
    state: State
    dek: Dek | None = None
    keys: dict[str, list[ServerKey]] = field(default_factory=dict)
    """environment -> its keys, newest first, proposed ones included"""
    _proposed: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    _prints: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    _printed: str = ""

    def by_fingerprint(self, keyid: str) -> tuple[str, str, bytes] | None:
        """(`principal` or `invite`, its name, Ed25519 key) of the present key with this fingerprint, disabled ones and
        used invites included; None if there is none."""
        state = self.state
        if self._printed != state.head:
            made = {}
            for invite in state.invites.values():
                made[signing.fingerprint(invite.key)] = ("invite", invite.name, invite.key)
            for principal in state.principals.values():
                if principal.key is not None:
                    made[signing.fingerprint(principal.key)] = ("principal", principal.name, principal.key)
            self._prints, self._printed = made, state.head
        return self._prints.get(keyid)

    def propose(self, env: str) -> tuple[int, str, bytes]:
        """(generation, recipient, sealed) of the key to be named next: the same one until it is in the database and
        `keys` has it, so that two requests at once get one key."""
        assert self.dek is not None
        newest = max((key.generation for key in self.keys.get(env, ())), default=0)
        found = self._proposed.get(env)
        if found is None or found[0] <= newest:
            private, sealed = self.dek.new_key(env, newest + 1)
            found = self._proposed[env] = (newest + 1, private.recipient, sealed)
        return found

    def server_keys(self, env: str) -> list[ServerKey]:
        """The keys that open an environment's stanzas: that in force and, behind it, those it replaced."""
        owner = f"server:{env}"
        known = [key for key in self.keys.get(env, ()) if self.state.recipient_owner(key.recipient) == owner]
        current = self.state.all_envs[env].server_key if env in self.state.all_envs else None
        return sorted(known, key=lambda key: (key.recipient != current, -key.generation))


class Workspaces:
    """All workspaces of the database, loaded when first asked for."""

    def __init__(self, server: str, kek: Kek) -> None:
        """`server` is the public origin."""
        self.server = server
        self.kek = kek
        self.cache = TileCache()
        self.lock = asyncio.Lock()
        """Held while a tree is loaded or grown: between two reads another task must not move it."""
        self.trees: dict[str, Tree] = {}
        self._known: dict[str, Workspace] = {}

    def known(self, name: str) -> Workspace | None:
        """The workspace if it is loaded."""
        return self._known.get(name)

    async def get(self, connection: asyncpg.Connection, name: str) -> Workspace | None:
        """The workspace at what the database has now, None if there is none. IntegrityError if its lines do not fold
        to the head that the database claims."""
        row = await connection.fetchrow(
            "SELECT encode(genesis, 'hex') AS genesis, policy_seq, encode(policy_head, 'hex') AS head"
            " FROM policy.workspace WHERE id = $1",
            name,
        )
        if row is None:
            return None
        found = self._known.get(name)
        # While we waited for the row another task may have gone further. (A rollback looks the same here; the batch
        # that would decide on it finds it.)
        ahead = found is not None and found.log == row["genesis"] and found.state.seq > row["policy_seq"]
        if found is not None and ahead and found.state.hash_at(row["policy_seq"]) == row["head"]:
            return found
        if found is None or found.log != row["genesis"] or found.state.head != row["head"]:
            found = await self._bring(connection, name, row["genesis"], row["policy_seq"], row["head"])
        return found

    async def bring(self, connection: asyncpg.Connection, name: str, seq: int, head: str) -> Workspace:
        """A known workspace at head (seq, hash), which the caller has read under the lock."""
        known = self._known[name]
        if (known.state.seq, known.state.head) == (seq, head):
            return known
        return await self._bring(connection, name, known.log, seq, head)

    async def _bring(self, connection: asyncpg.Connection, name: str, genesis: str, seq: int, head: str) -> Workspace:
        known = self._known.get(name)
        # Other tasks move `known.state` while this one waits for the database: what the lines extend is held here.
        base = None if known is None or known.log != genesis else known.state
        begin = 0 if base is None else base.seq + 1
        rows = await connection.fetch(
            "SELECT line FROM policy.statement WHERE ws = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq", name, begin, seq
        )
        lines = [row["line"] for row in rows]
        try:
            if base is None:
                state = policy_log.fold(b"".join(line + b"\n" for line in lines), genesis=genesis)
            else:
                state = policy_log.extend(base, lines) if lines else base
        except ZoppError as exc:  # the database's lines, not the caller's
            raise IntegrityError(f"the policy lines of {name} do not hold: {exc.message}", code="policy.head") from exc
        if known is None or base is None:
            known = Workspace(name, genesis, checkpoint.origin_of(self.server, name, genesis), state)
        if (state.seq, state.head, state.name) != (seq, head, name):
            raise IntegrityError(
                f"the policy lines of {name} do not lead to the head that the database has", code="policy.head"
            )
        await self.load_keys(connection, known)
        if state.seq > known.state.seq:  # while we waited for the database another task may have gone further
            known.state = state
        return self._known.setdefault(name, known) if base is not None else self._replace(name, known)

    def _replace(self, name: str, made: Workspace) -> Workspace:
        known = self._known.get(name)
        if known is not None and known.log == made.log and known.state.seq >= made.state.seq:
            return known
        self._known[name] = made
        return made

    def moved(self, workspace: Workspace, state: State) -> Workspace:
        """The same workspace at another state, for the rest of a batch."""
        return replace(workspace, state=state)

    def add(self, workspace: Workspace) -> None:
        """A workspace that was just made, after its commit."""
        self._known[workspace.name] = workspace

    async def load_keys(self, connection: asyncpg.Connection, ws: Workspace) -> None:
        """Open the server keys that the database has and this process has not."""
        have = {key.recipient for keys in ws.keys.values() for key in keys}
        rows = await connection.fetch(
            "SELECT project, env, generation, recipient, wrapped FROM keys.server_key WHERE ws = $1"
            " AND recipient <> ALL ($2) ORDER BY generation DESC",
            *(ws.name, list(have)),
        )
        if not rows:
            return
        dek = ws.dek or await self.dek(connection, ws.name, ws.log)
        ws.dek = dek
        for row in rows:
            env = f"{row['project']}/{row['env']}"
            private = None
            if row["wrapped"] is not None:
                private = dek.open_key(row["wrapped"], env, row["generation"])
                if private.recipient != row["recipient"]:
                    raise IntegrityError(f"a server key of {env} is not the one it is named as", code="server_key")
            keys = ws.keys.setdefault(env, [])
            if all(key.recipient != row["recipient"] for key in keys):  # another task may have been quicker
                keys.append(ServerKey(row["generation"], row["recipient"], private))
        for keys in ws.keys.values():
            keys.sort(key=lambda key: -key.generation)

    async def dek(self, connection: asyncpg.Connection, name: str, genesis: str) -> Dek:
        """The workspace's data encryption key, opened and checked."""
        row = await connection.fetchrow("SELECT kek_id, wrapped, canary FROM keys.dek WHERE ws = $1", name)
        if row is None:
            raise IntegrityError(f"workspace {name} has no data encryption key", code="kek")
        return custody.open_dek(self.kek, row["wrapped"], row["canary"], genesis, row["kek_id"])

    async def tree(self, connection: asyncpg.Connection, log: str, size: int, frontier: bytes) -> Tree:
        """The tree of a log whose head the caller has read: grown from what is in memory, or loaded. IntegrityError if
        the rows do not lead to the head's frontier."""
        tree = self.trees.get(log)
        if tree is not None and tree.size < size:
            rows = await connection.fetch(
                "SELECT leaf FROM audit.entry WHERE log_id = $1 AND seq >= $2 AND seq < $3 ORDER BY seq",
                *(log, tree.size, size),
            )
            if len(rows) == size - tree.size:
                tree.grow(tree.append([row["leaf"] for row in rows]))
        if tree is None or tree.size != size:
            tree = await Tree.load(connection, log, size, self.cache)
        if tree.frontier.pack() != frontier:
            self.trees.pop(log, None)
            raise IntegrityError("the log's head is not the tree of its rows", code="log.head")
        self.trees[log] = tree
        return tree
