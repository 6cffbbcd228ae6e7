"""Taking an existing sops repository in: which files, which environments, which readers; nothing is written here.

The files decide, not the creation rules: only who can open a file today is enrolled, and reads exactly the
environments of those files. Each file gets a new data key (DESIGN.md, decision 9), because it is not known who holds
the old one. Everything that cannot be adopted is named at once, before anything is made.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from zopp import sopsfile
from zopp.errors import FormatError, IntegrityError, Unknown, UsageError, ZoppError
from zopp.keys import agefile
from zopp.policy import names
from zopp.repo import blocks, create, exposure, files, git
from zopp.repo.clock import timestamp
from zopp.repo.draft import Draft
from zopp.repo.environment import Environment
from zopp.repo.layout import Checkout
from zopp.repo.unlock import Keyring
from zopp.sopsfile import SopsFile

_SUFFIXES = (".yaml", ".yml", ".json", ".env", ".ini")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}|ssh-ed25519 [A-Za-z0-9+/]{68}")


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file that can be adopted: `path` relative to the git root, opened and its MAC checked."""

    path: str
    env: str
    sops: SopsFile
    recipients: frozenset[str]
    data_key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`readers`: recipient → the name it is enrolled under. `surplus`: recipients that only `.sops.yaml` names."""

    files: tuple[File, ...]
    readers: Mapping[str, str]
    surplus: tuple[str, ...]

    def environments(self) -> dict[str, tuple[str, ...]]:
        """Environment → its files, in order."""
        out: dict[str, tuple[str, ...]] = {}
        for file in self.files:
            out[file.env] = (*out.get(file.env, ()), file.path)
        return out

    def readers_of(self, env: str) -> list[tuple[str, str]]:
        """(name, recipient) of those enrolled who read `env`, by name."""
        wanted = {r for file in self.files if file.env == env for r in file.recipients}
        return sorted((name, recipient) for recipient, name in self.readers.items() if recipient in wanted)


def find(checkout: Checkout, folder: str) -> list[str]:
    """The sops files of the project in `folder` that git knows or would take, by content."""
    listing = git.run(checkout.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    found = []
    for path in sorted(set(listing.decode("utf-8", "surrogateescape").split("\0"))):
        if not path.endswith(_SUFFIXES) or (folder and not path.startswith(folder + "/")):
            continue
        if path.rpartition("/")[2] == blocks.SOPS_CONFIG:
            continue
        try:
            data = files.read(checkout.root, path)
        except ZoppError:
            continue  # deleted, or no regular file: nothing that sops could open
        if b"sops" in data and b"ENC[AES256_GCM" in data and b"lastmodified" in data:
            found.append(path)
    return found


def environment_of(path: str, folder: str) -> str | None:
    """The environment that `secrets/NAME.yaml` means (also `NAME.enc.yaml` and `NAME.sops.yaml`); None for others."""
    inner = path[len(folder) + 1 :] if folder else path
    parent, _, name = inner.rpartition("/")
    stem = name.rpartition(".")[0]
    for marker in (".enc", ".sops"):
        stem = stem.removesuffix(marker)
    return stem if parent == "secrets" and names.is_typed_name(stem) else None


def plan(
    checkout: Checkout,
    folder: str,
    keyring: Keyring,
    *,
    maps: Mapping[str, str],
    leave: Collection[str] = (),
    own: str | None = None,
    taken: Iterable[str] = (),
) -> Plan:
    """What adopting means. `maps`: path → environment where the name does not say it. `own`: the recipient of this
    device, which is enrolled already. `taken`: names that are in use. UsageError where a file could be several
    environments or none; IntegrityError or FormatError with every file that cannot be adopted."""
    paths = [path for path in find(checkout, folder) if path not in leave]
    strange = sorted({*maps, *leave} - set(find(checkout, folder)))
    if strange:
        raise UsageError(f"is no sops file of this project: {', '.join(strange)}", code="adopt.path")
    if not paths:
        raise UsageError("there is no sops file to adopt here", code="adopt.none", hint="zopp init")
    envs = _environments(paths, folder, maps)
    opened, faults = [], []
    for path in paths:
        try:
            opened.append(_open(checkout, path, envs[path], keyring))
        except ZoppError as exc:
            faults.append(f"{path}: {exc.message}")
    faults += _config_faults(checkout, paths, leave)
    if faults:
        raise IntegrityError(
            "nothing is adopted: " + "; ".join(faults),
            code="adopt.files",
            hint="mend these with sops, or leave a file out with: zopp init --adopt --leave FILE",
        )
    _same_readers(opened)
    _keys_once(opened)
    config = files.read_if_there(checkout.root, blocks.SOPS_CONFIG)
    text = "" if config is None else config.decode("utf-8", "replace")
    recipients = [r for r in dict.fromkeys(_in_order(opened)) if r != own]
    return Plan(
        files=tuple(opened),
        readers=_named(recipients, labels(text), set(taken)),
        surplus=tuple(r for r in dict.fromkeys(_RECIPIENT.findall(text)) if r != own and r not in recipients),
    )


def _environments(paths: Sequence[str], folder: str, maps: Mapping[str, str]) -> dict[str, str]:
    envs: dict[str, str] = {}
    guessed: dict[str, str] = {}
    unclear: list[str] = []
    for path in paths:
        if path in maps:
            envs[path] = maps[path]
            continue
        env = environment_of(path, folder)
        if env is None:
            unclear.append(f"{path} (no secrets/ENV.yaml)")
        elif env in guessed or env in maps.values():
            other = guessed.get(env) or next(p for p, e in maps.items() if e == env)
            unclear.append(f"{path} (would be {env}, as {other} is)")
        else:
            envs[path] = guessed[env] = env
    if unclear:
        first = unclear[0].partition(" (")[0]
        raise UsageError(
            "which environment is meant is not clear for " + ", ".join(unclear),
            code="adopt.env",
            hint=f"say it: zopp init --adopt --map ENV={first}",
        )
    return envs


def _open(checkout: Checkout, path: str, env: str, keyring: Keyring) -> File:
    files.check_path(path)
    sops = sopsfile.read(files.read(checkout.root, path), sopsfile.format_of(path), strict=True)
    meta = sops.metadata
    if meta.foreign:
        kinds = ", ".join(sorted({kind for _, kind, _ in meta.foreign}))
        raise FormatError(f"has recipients that are not age ({kinds})", code="foreign_keys")
    if sops.fmt not in ("yaml", "json"):
        raise FormatError(f"is {sops.fmt}, which zopp does not write yet", code="unsupported_write")
    if len(meta.groups) != 1 or meta.threshold:
        raise FormatError("needs keys of several groups, which a direct environment cannot keep up", code="groups")
    entries = {agefile.canonical_recipient(entry.recipient): entry for entry in meta.groups[0]}
    for identity in keyring.matching(entries):
        try:
            key = agefile.unwrap(entries[identity.recipient].enc, [identity])
        except Unknown:
            continue
        sops.decrypt(key)  # every value and the MAC: what is signed later has been looked at
        return File(path=path, env=env, sops=sops, recipients=frozenset(entries), data_key=key)
    tried = "; ".join(f"{source}: {outcome}" for source, outcome in keyring.found.tried if outcome != "not there")
    raise Unknown(f"no key of yours opens it (tried {tried or 'nothing'})", code="key.none")


def _config_faults(checkout: Checkout, paths: Sequence[str], leave: Collection[str]) -> list[str]:
    """What would stop the writing or make `verify` fail afterwards: a `.sops.yaml` that cannot take zopp's block, sops
    rules nearer to a file than zopp's, a file left beside others."""
    faults = []
    config_bytes = files.read_if_there(checkout.root, blocks.SOPS_CONFIG)
    text = None if config_bytes is None else config_bytes.decode("utf-8", "surrogateescape")
    listed: blocks.Files = {path: [[]] for path in paths}
    try:
        fault = blocks.sops_config_fault(blocks.update_sops_config(text, listed), listed)
    except FormatError as exc:
        fault = exc.message
    if fault:
        faults.append(f"{blocks.SOPS_CONFIG}: {fault}")
    folders = {path.rpartition("/")[0] for path in paths}
    for folder in sorted(folders):
        while folder:
            config = f"{folder}/{blocks.SOPS_CONFIG}"
            if os.path.lexists(os.path.join(checkout.root, config)):
                faults.append(f"{config}: stands nearer to the files than zopp's rules would")
            folder = folder.rpartition("/")[0]
    for path in sorted(leave):
        parent = path.rpartition("/")[0]
        if any(parent and (parent + "/").startswith(folder + "/") for folder in folders if folder):
            faults.append(f"{path}: cannot be left out in a folder of adopted files: move it elsewhere")
    return sorted(set(faults))


def _same_readers(opened: Sequence[File]) -> None:
    """An environment has one set of readers; joining two would show somebody what they could not read before."""
    first: dict[str, File] = {}
    for file in opened:
        other = first.setdefault(file.env, file)
        if other.recipients != file.recipients:
            raise UsageError(
                f"{other.path} and {file.path} have different recipients and cannot both be {file.env}",
                code="adopt.readers",
                hint=f"give one an environment of its own: zopp init --adopt --map ENV={file.path}",
            )


def _keys_once(opened: Sequence[File]) -> None:
    seen: dict[tuple[str, object], str] = {}
    for file in opened:
        for leaf in file.sops.paths():
            other = seen.setdefault((file.env, leaf), file.path)
            if other != file.path:
                raise UsageError(
                    f"{exposure.dotted(leaf)} stands in {other} and {file.path}; one environment has each key once",
                    code="adopt.key_twice",
                    hint=f"give one an environment of its own: zopp init --adopt --map ENV={file.path}",
                )


def _in_order(opened: Sequence[File]) -> list[str]:
    return [agefile.canonical_recipient(e.recipient) for file in opened for e in file.sops.metadata.groups[0]]


def labels(text: str) -> dict[str, str]:
    """What a `.sops.yaml` calls its recipients: an anchor (`&bob`), a comment at the end of the line, or one alone on
    the line above; as names. A line of several recipients names none of them, and a sentence is no name."""
    found: dict[str, str] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines):
        here = _RECIPIENT.findall(line)
        if len(here) != 1:
            continue
        before, _, after = line.partition(here[0])
        anchor = re.search(r"&([A-Za-z0-9_.-]+)\s*['\"]?$", before)
        above = re.fullmatch(r"\s*#(.*)", lines[number - 1]) if number else None
        comment = re.fullmatch(r"['\"]?\s*,?\s*#(.*)", after)
        said = anchor or comment or above
        words = re.findall(r"[a-z0-9]+", said.group(1).lower()) if said else []
        name = "-".join(words)
        if 0 < len(words) <= 3 and names.is_typed_name(name) and len(name) <= 40:
            found.setdefault(here[0], name)
    return found


def _named(recipients: Sequence[str], said: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    number = 0
    for recipient in recipients:
        name = said.get(recipient, "")
        while not name or name in taken:
            number += 1
            name = f"reader-{number}"
        taken.add(name)
        out[recipient] = name
    return out


def carry_out(draft: Draft, project: str, found: Plan) -> None:
    """Draft it all in a workspace that has the project and its environments: readers, roles, new data keys, manifests.
    IntegrityError if a file changed since it was looked at."""
    for recipient, name in found.readers.items():
        asked = create.request(ws=draft.state.ws, name=name, user=None, recipient=recipient, key=None, now=draft.now)
        draft.statement("principal.enrol", {"request": dict(asked.request), "proof": None, "cap": None, "vouch": None})
    for env in found.environments():
        for name, _ in found.readers_of(env):
            draft.statement(
                "binding.set",
                {"role": "read", "scope": {"env": f"{project}/{env}"}, "subject": {"service": name}},
            )
    for env in found.environments():
        scope = f"{project}/{env}"
        opened = Environment(
            scope=scope, project=project, name=env, kind="direct", manifest=None, manifest_bytes=None, signature=None
        )
        for file in found.files:
            if file.env != env:
                continue
            if draft.ws.read(file.path) != file.sops.data:
                raise IntegrityError("changed while it was being adopted; run this again", place=file.path)
            made = os.urandom(32)
            data = sopsfile.rotate(
                file.sops, file.data_key, made, draft.wrap(opened, made).groups, lastmodified=timestamp(draft.now)
            )
            draft.secrets(opened, file.path, data, made, made=True)
    draft.refresh_blocks()
