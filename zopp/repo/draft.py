"""A change being prepared: policy statements, secrets files and manifests, written as one through the journal.

Nothing is signed blind: a draft signs manifests of environments that verified, with files whose every byte this
process made or checked. `commit` is the only writer of a repository.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zopp._fast import sha512
from zopp.errors import IntegrityError, Unknown, ZoppError
from zopp.keys import sshsig
from zopp.policy import apply as policy_apply, canonical, manifest as manifests, statement
from zopp.policy.manifest import FileEntry
from zopp.policy.state import State
from zopp.repo import attributes, blocks, brokered, committed, git, journal, layout, memory, policycache, userdirs
from zopp.repo.brokered import Wrapped
from zopp.repo.environment import Environment, accepted, open_environment
from zopp.repo.signer import Signer, require
from zopp.repo.workspace import Workspace


@dataclass(slots=True)
class _Touched:
    env: Environment
    files: dict[str, FileEntry]
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a server accepted: the whole `log` with its `state`, and the `receipt` file that proves it. Its last
    statements are those that were drafted, perhaps signed again behind others that came first."""

    log: bytes
    state: State
    receipt: bytes


@dataclass(slots=True)
class Draft:
    """`state` is the policy after the statements drafted so far. `now` is in Unix seconds. `submit` has the drafted
    lines accepted by the server that the policy names, before anything is written; it raises if they are not. `keys`:
    the data keys that this command made or opened, by path, so that no file is released to it twice."""

    ws: Workspace
    signer: Signer
    now: int
    submit: "Callable[[Draft], Accepted] | None" = None
    state: State = field(init=False)
    lines: list[bytes] = field(default_factory=list)
    changes: dict[str, tuple[bytes | None, bytes | None]] = field(default_factory=dict)
    keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    left: list[str] = field(default_factory=list)
    """After `commit`: environments whose drafted files were left out, as others changed their readers meanwhile."""
    accepted: "list[Callable[[], None]]" = field(default_factory=list)
    """What `commit` does between the server's word and writing: it counts the statements as in force."""
    _touched: dict[str, _Touched] = field(default_factory=dict)
    _made: set[tuple[str, str]] = field(default_factory=set)
    _stale_blocks: bool = False

    def __post_init__(self) -> None:
        self.state = self.ws.state

    def statement(self, type_: str, data: Mapping[str, Any]) -> None:
        """Draft, sign and apply one policy statement; IntegrityError or Denied as `policy.apply` says."""
        # Time that fell back (a corrected clock) must not make the log unusable: `at` never decreases.
        at = max(self.now, self.state.at)
        body = statement.draft(
            type_, data, ws=self.state.ws, seq=self.state.seq + 1, prev=self.state.head, at=at, by=self.signer.principal
        )
        line = statement.seal(body, [self.signer.key.sign(statement.to_sign(body))])
        try:
            self.state = policy_apply.apply(self.state, statement.parse(line))
        except IntegrityError as exc:
            # Nobody has seen this statement: its number says nothing to whoever asked for it.
            exc.message = exc.message.removeprefix(f"statement {self.state.seq + 1} ({type_}): ")
            exc.hint = exc.hint or "see what is there with: zopp policy show"
            raise
        self.lines.append(line)

    def put(self, path: str, data: bytes | None) -> None:
        """A file that no manifest lists: `data` replaces it, None removes it."""
        old = self.changes[path][0] if path in self.changes else self.ws.read(path)
        self.changes[path] = (old, data)

    def secrets(
        self,
        env: Environment,
        path: str,
        data: bytes,
        data_key: bytes | None,
        *,
        made: bool,
        share: bytes | None = None,
    ) -> None:
        """A secrets file of `env` with the bytes `data`. `made`: its data key was made here and now. `data_key` None:
        it was not opened and is the one that was committed to; `share` (share 1 of a brokered file) None: so is that
        one."""
        touched = self.touch(env)
        if made:
            self._made.add((env.scope, path))
        old = touched.files.get(path)
        assert old is not None or data_key is not None
        kc1 = None
        if self.state.envs[env.scope].kind == "brokered":
            kc1 = old.kc1 if old is not None else None
            if share is not None:
                kc1 = manifests.share_commitment(share, self.state.ws, env.scope, path)
        if data_key is None:
            assert old is not None
            kc = old.kc
        else:
            kc = manifests.commitment(data_key, self.state.ws, env.scope, path)
            self.keys[path] = data_key
        touched.files[path] = FileEntry(
            sha512=sha512(data).hex(),
            kc=kc,
            dk_seq=self.state.seq if made else (old.dk_seq if old else None),
            dk_by=self.signer.principal if made else (old.dk_by if old else None),
            kc1=kc1,
        )
        if path in self.changes or path not in env.files:
            self.put(path, data)
        else:
            # What was checked is what is replaced: the journal refuses if the file is another by then.
            self.changes[path] = (env.files[path].data, data)

    def touch(self, env: Environment) -> _Touched:
        """Sign the manifest of `env` anew, even if none of its files changes. Denied unless the signer may write there
        under the drafted policy: every change of secrets comes through here."""
        require(self.state, self.signer.principal, "write", env.scope)
        if env.scope not in self._touched:
            files = dict(env.manifest.files) if env.manifest else {}
            self._touched[env.scope] = _Touched(env, files, dict(env.manifest.meta) if env.manifest else {})
        return self._touched[env.scope]

    def wrap(self, env: Environment, data_key: bytes) -> Wrapped:
        """A new data key for the readers of `env` under the drafted policy, sorted by principal, and where it is
        brokered for its server key; errors as `brokered.wrap`."""
        return brokered.wrap(self.state, env.scope, data_key)

    def listed_paths(self) -> dict[str, brokered.Groups]:
        """Every secrets file of every live environment after this draft, with the key groups of its environment."""
        found: dict[str, brokered.Groups] = {}
        for scope in self.state.envs:
            recipients = brokered.groups(self.state, scope)
            if scope in self._touched:
                paths = list(self._touched[scope].files)
            else:
                data = self.ws.read(layout.manifest_path(scope))
                try:
                    paths = [] if data is None else list(manifests.parse(data).files)
                except ZoppError:
                    paths = []  # `verify` names it; nobody's removal may wait for it
            for path in paths:
                found[path] = recipients
        return found

    def refresh_blocks(self) -> None:
        """Also bring zopp's blocks in `.sops.yaml` and `.gitattributes` up to date, whatever else changes."""
        self._stale_blocks = True

    def commit(
        self, message: str | None = None, *, check: Callable[[], None] | None = None, learn: bool = True
    ) -> str | None:
        """Write everything through the journal; with `message` also make a git commit of exactly these paths and
        return its id. The caller holds the journal's lock. `check` looks at what was written before git hears of it;
        if it raises, the earlier bytes are put back. Without `learn` this clone does not remember the commit, which may
        be undone. With a server its word comes first: what it refuses, and
        what it cannot be asked, is not written (policy-server.md §1.5)."""
        ws = self.ws
        if self.lines:
            self._accept()
        elif ws.receipt is not None:
            # What was fetched before drafting is written with what stands on it.
            self._mirror(ws.log, ws.receipt)
        for finish in self.accepted:
            finish()
        if self._touched:
            committed.prepare(ws)
        for scope, touched in self._touched.items():
            self._manifest(scope, touched)
        committed.forget(ws)  # HEAD may be another one below
        if self._stale_blocks or self.lines or any(_other_files(touched) for touched in self._touched.values()):
            self._blocks()
        try:
            journal.write(ws.checkout, self.changes)
        except ZoppError as exc:
            if self.lines and self.submit is not None:
                exc.hint = "the server has accepted the statements already: zopp policy pull, then zopp rekey"
            raise
        if check is not None:
            try:
                check()
            except BaseException:
                journal.write(ws.checkout, {path: (new, old) for path, (old, new) in self.changes.items()})
                raise
        # Also what the work tree had already: a file that somebody else changed and that is signed now.
        drafted = [path for path, pair in self.changes.items() if pair != (None, None)]
        if layout.POLICY in self.changes:
            ws.state, ws.log = self.state, self.changes[layout.POLICY][1] or b""
            if policycache.proven(ws.state, ws.log, ws.receipt):
                policycache.store(self.state, ws.log, cache_dir=userdirs.cache(ws.env))
        made = git.commit(ws.root, drafted, message, ws.env) if message is not None and drafted else None
        if made is not None and learn:
            memory.learn(ws, [open_environment(ws, scope) for scope in self._touched])
        return made

    def _accept(self) -> None:
        """Make the log what the server has accepted, or without a server what was drafted."""
        ws = self.ws
        if self.submit is None:
            if ws.state.server is not None:
                raise Unknown(
                    "the policy is ordered by a server, and this command does not ask it",
                    code="server.needed",
                    place=ws.state.server.origin,
                    hint="take the server's log with: zopp policy pull; hand yours in with: zopp policy push",
                )
            self.put(layout.POLICY, ws.log + b"".join(line + b"\n" for line in self.lines))
            return
        accepted = self.submit(self)
        if accepted.state.head != self.state.head:
            self._moved(accepted.state)
        self.state = accepted.state
        ws.receipt = accepted.receipt
        self._mirror(accepted.log, accepted.receipt)

    def _moved(self, state: State) -> None:
        """Others' statements came first. Files that were drafted stand only where the readers are those they were
        made for and the signer still writes; a data key that was made here is then as new as the new head."""
        for scope, touched in list(self._touched.items()):
            same = scope in state.envs and dict(state.readers(scope)) == dict(self.state.readers(scope))
            if same and self.signer.principal in state.writers(scope):
                for path, entry in touched.files.items():
                    if (scope, path) in self._made:
                        touched.files[path] = FileEntry(entry.sha512, entry.kc, state.seq, entry.dk_by, entry.kc1)
                continue
            for path in touched.files:
                self.changes.pop(path, None)
            del self._touched[scope]
            self.left.append(scope)

    def _mirror(self, log: bytes, receipt: bytes) -> None:
        for path, data in ((layout.POLICY, log), (layout.RECEIPT, receipt)):
            if self.ws.read(path) != data:
                self.put(path, data)
                self._stale_blocks = True

    def _manifest(self, scope: str, touched: _Touched) -> None:
        path = layout.manifest_path(scope)
        newest, digest = self._newest(touched.env)
        if newest >= canonical.MAX_INT:
            raise IntegrityError(
                "has the highest generation there can be, so nothing can follow it",
                code="generation.full",
                place=path,
                hint=f"see who signed it: git log -- {path}; and go on from a commit before that",
            )
        data = manifests.build(
            ws=self.state.ws,
            env=scope,
            generation=newest + 1,
            prev=digest,
            policy_seq=self.state.seq,
            policy_hash=self.state.head,
            signer=self.signer.principal,
            groups=brokered.groups(self.state, scope),
            files=touched.files,
            meta=touched.meta,
        )
        signature = self.signer.key.sign(manifests.to_sign(data))
        self.put(path, data)
        self.put(path + ".sig", sshsig.armor(self.signer.key.public, manifests.NAMESPACE, signature).encode())

    def _newest(self, env: Environment) -> tuple[int, str | None]:
        """Generation and hash of the newest manifest that the next one has to stand above: that of the work tree, of
        HEAD and its parents (after a plain revert HEAD's own is an old one), of what is being merged, and the one
        remembered from the default branch when this is it."""
        best: tuple[int, str | None] = (0, None)
        if env.manifest is not None:
            best = (env.manifest.generation, env.manifest.hash)
        revisions = ["HEAD", *git.merge_heads(self.ws.checkout.git_dir)]
        revisions += committed.parents(self.ws, "HEAD")
        for revision in revisions:
            other = accepted(self.ws, env.scope, revision, but=env.manifest_bytes)
            if other is not None and other.generation > best[0]:
                best = (other.generation, other.hash)
        pin = self.ws.pin
        if pin is not None and self.ws.on_default_branch() and pin.manifests.get(env.scope, (0, ""))[0] > best[0]:
            best = pin.manifests[env.scope]
        return best

    def _blocks(self) -> None:
        listed = self.listed_paths()
        config = self._drafted(blocks.SOPS_CONFIG)
        self.put(
            blocks.SOPS_CONFIG, blocks.update_sops_config(_text(config), listed).encode("utf-8", "surrogateescape")
        )
        if attributes.is_protected(self.ws.checkout):
            configured = {path for paths in self.ws.settings.files.values() for path in paths}
            attributes.protect(self.ws.checkout, {*listed, *configured})
        tracked = self._drafted(blocks.ATTRIBUTES)
        self.put(blocks.ATTRIBUTES, blocks.update_attributes(_text(tracked), listed).encode("utf-8", "surrogateescape"))

    def _drafted(self, path: str) -> bytes | None:
        """A file as this draft has it, else as the work tree does."""
        return self.changes[path][1] if path in self.changes else self.ws.read(path)


def _other_files(touched: _Touched) -> bool:
    return touched.env.manifest is None or set(touched.files) != set(touched.env.manifest.files)


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogateescape")
