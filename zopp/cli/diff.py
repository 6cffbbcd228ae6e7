"""Compare two versions of the workspace by key, or with --with two environments. Values are hidden.

Without REV: the last commit against the work tree. REV: that commit against the work tree. A..B: two commits; A...B:
what B changed since they parted. Needs no key; --reveal prints the values of keys that differ, before and after, and
tells those that were only encrypted anew. Exit 0: nothing differs; 1: something does.
"""

import argparse
from collections.abc import Mapping
from typing import Any

from zopp import sopsfile
from zopp.cli import sentences, timeline
from zopp.cli.context import Context
from zopp.cli.parser import add_env, epilog
from zopp.errors import UsageError
from zopp.policy.statement import Statement
from zopp.printable import printable
from zopp.repo import brokered, diff, git, versions
from zopp.repo.diff import EnvironmentDiff, FileDiff, PolicyDiff
from zopp.repo.environment import people_name, scope_of
from zopp.repo.values import plain
from zopp.repo.versions import Version
from zopp.repo.workspace import Workspace
from zopp.sopsfile.comparing import ADDED, CHANGED, REMOVED, Change, Place, kind_of, name, selector_words

EXAMPLES = epilog(
    "zopp diff                               what is not committed",
    "zopp diff main...feature -e production",
    "zopp diff HEAD~5..HEAD --json",
    "zopp diff -e staging --with production  keys that one has and the other has not",
)
REENCRYPTED = "re-encrypted"
_MARKS: dict[str, str] = {ADDED: "+", REMOVED: "-", CHANGED: "~"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp diff`."""
    parser.add_argument(
        "range", nargs="?", metavar="REV|A..B", help="what to compare (default: HEAD with the work tree)"
    )
    parser.add_argument("--with", dest="other", metavar="ENV", help="compare with another environment")
    parser.add_argument("--reveal", action="store_true", help="show values, before and after")
    add_env(parser)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    ws = ctx.workspace(needs_receipt=False)
    if args.other is not None:
        return _environments(ctx, args, ws)
    pair = diff.sides(ws.root, args.range)
    one = args.env is not None
    scopes = [scope_of(ws, args.env, args.project)] if one else diff.scopes_of(ws)
    with git.Batch(ws.root) as batch:
        found = diff.environments(ws, pair, scopes, batch)
        policy = diff.policy(ws, pair, batch)
    values = {each.scope: _open(ctx, ws, each) for each in found} if args.reveal else {}
    if ctx.as_json:
        ctx.data(
            {
                "before": pair.before,
                "after": pair.after,
                "environments": [_as_json(ws, each, values.get(each.scope)) for each in found],
                "policy": _policy_json(policy),
            }
        )
    else:
        for each in found:
            _show(ctx, ws, each, values.get(each.scope))
        _show_policy(ctx, policy)
        if not found and not policy:
            ctx.note("nothing differs")
    return 1 if found or policy else 0


Nodes = dict[tuple[str, str, Place], object]
"""(before or after, path, place) → value."""


def _open(ctx: Context, ws: Workspace, found: EnvironmentDiff) -> Nodes:
    """Every value of both sides of the files that differ, by one request."""
    wanted = []
    for each in found.files:
        for side, file in (("before", each.before), ("after", each.after)):
            if file is not None and file.sops is not None:
                wanted.append((side, file, (file.path, file.sops, file.author.entry)))
    trees = versions.open_all(ws, found.scope, [each for _, _, each in wanted], ctx.keyring)
    out: Nodes = {}
    for (side, file, _), tree in zip(wanted, trees, strict=True):
        outline = file.outline
        for place in outline.leaves if outline is not None else ():
            out[side, file.path, place] = sopsfile.lookup(tree.documents[place[0]], place[1])
    return out


def _class(each: FileDiff, change: Change, nodes: Nodes | None) -> str:
    """What to call a change: a new ciphertext of a file that went under a new data key is no news of its value, unless
    a key tells."""
    if change.what != CHANGED:
        return change.what
    if nodes is not None and each.before is not None and each.after is not None:
        old, new = nodes["before", each.before.path, change.place], nodes["after", each.after.path, change.place]
        return REENCRYPTED if sopsfile.same(old, new) else CHANGED
    return REENCRYPTED if each.comparison.full_rewrap and not change.clear and not change.other_type else CHANGED


def _show(ctx: Context, ws: Workspace, found: EnvironmentDiff, nodes: Nodes | None) -> None:
    names = brokered.describe(ws.state, found.scope)
    for each in found.files:
        head = f"{people_name(found.scope)}  {printable(each.path)}"
        if each.moved_from is not None:
            head += f" (was {printable(each.moved_from)})"
        elif each.before is None:
            head += " (new)"
        elif each.after is None:
            head += " (gone)"
        ctx.out(head)
        for path in each.unreadable():
            ctx.out(f"  {printable(path)} is no sops file that can be read")
        classes = {change.place: _class(each, change, nodes) for change in each.comparison.changes}
        old_of = each.renamed
        for change in each.comparison.changes:
            what = classes[change.place]
            if what == REENCRYPTED or (what == REMOVED and change.place in old_of.values()):
                continue
            mark = _MARKS[what]
            notes = ["in the clear"] if change.clear else []
            if change.other_type and change.was is not None and change.now is not None:
                notes.append(f"{change.was.type} → {change.now.type}" if change.was.type != change.now.type else "")
            if what == ADDED and change.place in old_of:
                mark, notes = "~", [f"looks renamed from {printable(name(old_of[change.place]))}", *notes]
            notes = [note for note in notes if note]
            ctx.out(f"  {mark} {printable(change.name)}" + (f" ({', '.join(notes)})" if notes else ""))
            if nodes is not None:
                _values(ctx, each, change, nodes)
        sealed = [place for place, what in classes.items() if what == REENCRYPTED]
        if sealed:
            why = ", new data key" if not each.comparison.same_data_key else ""
            sure = "the same values" if nodes is not None else "values not compared"
            ctx.out(f"  re-encrypted: {len(sealed)} key{'s' * (len(sealed) != 1)}{why}, {sure}")
        for text in notes_of(each, names):
            ctx.out(f"  {text}")
        if not each.comparison and each.before is not None and each.after is not None and not each.unreadable():
            ctx.out("  layout, time or MAC only")


def _values(ctx: Context, each: FileDiff, change: Change, nodes: Nodes) -> None:
    for sign, side, file in (("-", "before", each.before), ("+", "after", each.after)):
        if file is not None and (side, file.path, change.place) in nodes:
            for line in timeline.value_lines(nodes[side, file.path, change.place]):
                ctx.out(f"      {sign} {line}")


def notes_of(each: FileDiff, names: Mapping[str, str]) -> list[str]:
    """What differs beside values."""
    found = each.comparison
    out = []
    if found.comments and each.before is not None and each.after is not None:
        out.append("comments changed: " + ", ".join(printable(name(place)) or "(end)" for place in found.comments))
    if found.reordered:
        out.append("keys stand in another order")
    out += [f"recipient added: {printable(names.get(r, r))}" for r in found.recipients.added]
    out += [f"recipient removed: {printable(names.get(r, r))}" for r in found.recipients.removed]
    out += [f"recipient in another key group: {printable(names.get(r, r))}" for r in found.recipients.regrouped]
    if found.recipients.removed and found.same_data_key and each.after is not None:
        out.append("the data key is the same: whoever was removed still opens it")
    if found.shape is not None and None not in found.shape:
        out.append("key groups changed: " + " → ".join(side.words() for side in found.shape if side is not None))
    if found.selector is not None and None not in found.selector:
        words = " → ".join(printable(selector_words(side)) for side in found.selector if side is not None)
        out.append(f"selector changed: {words}")
    if found.foreign:
        out.append("entries of other key types changed: " + ", ".join(found.foreign))
    if found.unknown:
        out.append("fields that sops does not know: " + ", ".join(printable(text) for text in found.unknown))
    out += [f"stands twice: {printable(name(place))}" for place in found.repeated]
    if each.after is not None and each.after.sops is not None and not found.mac[1]:
        out.append("there is no MAC")
    if each.after is not None and each.after.author.status != "verified":
        out.append(f"{each.after.author.words()}: {each.after.author.why}" if each.after.author.why else "unsigned")
    return out


def _as_json(ws: Workspace, found: EnvironmentDiff, nodes: Nodes | None) -> dict[str, Any]:
    names = brokered.describe(ws.state, found.scope)

    def change(each: FileDiff, change: Change) -> dict[str, Any]:
        row: dict[str, Any] = {
            "key": change.name,
            "what": _class(each, change, nodes),
            "was": change.was.type if change.was else None,
            "now": change.now.type if change.now else None,
            "clear": change.clear,
            "renamed_from": name(each.renamed[change.place]) if change.place in each.renamed else None,
        }
        if nodes is not None:
            for label, side, file in (("value_before", "before", each.before), ("value_after", "after", each.after)):
                if file is not None and (side, file.path, change.place) in nodes:
                    row[label] = plain(nodes[side, file.path, change.place])
        return row

    return {
        "environment": people_name(found.scope),
        "files": [
            {
                "file": each.path,
                "was": each.moved_from,
                "before": each.before is not None,
                "after": each.after is not None,
                "unreadable": each.unreadable(),
                "keys": [change(each, c) for c in each.comparison.changes],
                "same_data_key": each.comparison.same_data_key,
                "full_rewrap": each.comparison.full_rewrap,
                "recipients_added": [names.get(r, r) for r in each.comparison.recipients.added],
                "recipients_removed": [names.get(r, r) for r in each.comparison.recipients.removed],
                "notes": notes_of(each, names),
                "signer": each.after.author.principal if each.after else None,
                "signature": each.after.author.status if each.after else None,
            }
            for each in found.files
        ],
    }


def _sentence(st: Statement) -> str:
    return f"{printable(sentences.words(st))} (statement {st.seq}, signed by {printable(st.by)})"


def _show_policy(ctx: Context, found: PolicyDiff) -> None:
    if not found:
        return
    ctx.out("policy")
    if found.why:
        ctx.out(f"  the log of one side does not hold: {printable(found.why)}")
    if found.parted:
        ctx.out("  the two logs have parted: neither begins with the other")
    for st in found.removed:
        ctx.out(f"  - {_sentence(st)}")
    for st in found.added:
        ctx.out(f"  + {_sentence(st)}")


def _policy_json(found: PolicyDiff) -> dict[str, Any]:
    def rows(statements: list[Statement]) -> list[dict[str, Any]]:
        return [{"seq": s.seq, "type": s.type, "by": s.by, "words": sentences.words(s)} for s in statements]

    return {
        "added": rows(found.added), "removed": rows(found.removed), "parted": found.parted, "fault": found.why or None,
    }  # fmt: skip


# --- two environments


def _environments(ctx: Context, args: argparse.Namespace, ws: Workspace) -> int:
    if args.range is not None and ".." in args.range:
        raise UsageError("--with compares two environments of one version", hint="zopp diff REV -e ENV --with ENV")
    scopes = [scope_of(ws, args.env, args.project), scope_of(ws, args.other, args.project)]
    commit = None if args.range is None else versions.commit_of(ws.root, args.range)
    found: list[Version] = []
    with git.Batch(ws.root) as batch:
        for scope in scopes:
            configured = ws.settings.files.get(versions.named(ws, scope).name, ())
            found.append(versions.read(ws, scope, commit, batch, also=configured))
    kinds = [_kinds(version) for version in found]
    nodes = [_all_values(ctx, ws, version) if args.reveal else None for version in found]
    labels = [people_name(scope) for scope in scopes]
    only = [[p for p in kinds[n] if p not in kinds[1 - n]] for n in (0, 1)]
    both = [p for p in kinds[0] if p in kinds[1]]
    types = [p for p in both if kinds[0][p] != kinds[1][p]]
    a, b = nodes
    differ = [] if a is None or b is None else [p for p in both if not sopsfile.same(a[p], b[p])]
    if ctx.as_json:
        row: dict[str, Any] = {
            "environments": labels,
            "only_first": [name(p) for p in only[0]],
            "only_second": [name(p) for p in only[1]],
            "other_type": [name(p) for p in types],
            "both": [name(p) for p in both],
        }
        if a is not None and b is not None:
            row["differ"] = [{"key": name(p), "first": plain(a[p]), "second": plain(b[p])} for p in differ]
            row["same"] = [name(p) for p in both if p not in differ]
        ctx.data(row)
    else:
        for label, places, side in ((labels[0], only[0], a), (labels[1], only[1], b)):
            for place in places:
                ctx.out(f"only in {label}: {printable(name(place))}")
                if side is not None:
                    for line in timeline.value_lines(side[place]):
                        ctx.out(f"      {line}")
        for place in types:
            ctx.out(f"other type: {printable(name(place))} ({kinds[0][place]}, {kinds[1][place]})")
        for place in differ:
            ctx.out(f"other value: {printable(name(place))}")
            for label, side in zip(labels, (a, b), strict=True):
                assert side is not None
                for line in timeline.value_lines(side[place]):
                    ctx.out(f"      {label}: {line}")
        same = [place for place in both if place not in differ]
        if a is not None and same:
            ctx.out(f"same value: {', '.join(printable(name(place)) for place in same)}")
        ctx.note(f"{len(both)} keys in both" + ("" if args.reveal else "; values not compared"))
    return 1 if only[0] or only[1] or types or differ else 0


def _kinds(version: Version) -> dict[Place, str]:
    out: dict[Place, str] = {}
    for file in version.files.values():
        outline = file.outline
        for place, leaf in outline.leaves.items() if outline is not None else ():
            out.setdefault(place, kind_of(leaf).type)
    return out


def _all_values(ctx: Context, ws: Workspace, version: Version) -> dict[Place, object]:
    wanted = [(f.path, f.sops, f.author.entry) for f in version.files.values() if f.sops is not None]
    trees = versions.open_all(ws, version.scope, wanted, ctx.keyring)
    out: dict[Place, object] = {}
    for (path, _, _), tree in zip(wanted, trees, strict=True):
        outline = version.files[path].outline
        for place in outline.leaves if outline is not None else ():
            out.setdefault(place, sopsfile.lookup(tree.documents[place[0]], place[1]))
    return out
