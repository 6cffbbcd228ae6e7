"""Which verbs there are: name, module, one line of help. Lean; nothing here imports a command."""

# (verb, module in zopp.cli, what it does), in the order of the overview
VERBS = (
    ("init", "init", "start a workspace in this git repository"),
    ("join", "join", "join a workspace by an invite's code"),
    ("trust", "trust", "show and set what this clone trusts"),
    ("set", "set", "set a value"),
    ("get", "get", "print a value"),
    ("list", "list", "list the keys of an environment"),
    ("unset", "unset", "remove a key"),
    ("edit", "edit", "edit an environment in your editor"),
    ("run", "run", "run a command with the values in its environment"),
    ("export", "export", "write the values in another format"),
    ("inject", "inject", "fill a template with values"),
    ("import", "import_", "import values from another format"),
    ("history", "history", "show what happened to a key or an environment, and who signed it"),
    ("blame", "blame", "show the last change of each key"),
    ("show", "show", "show the keys of an older version"),
    ("diff", "diff", "compare two versions, or two environments, by key"),
    ("rollback", "rollback", "set keys to what they were, as a new change"),
    ("textconv", "textconv", "print a sops file without its values, for git diff"),
    ("git", "git_", "git's drivers in this clone: enroll, status, leave"),
    ("sign", "sign", "look at changes made outside zopp and sign them"),
    ("merge", "merge", "merge a branch: secrets by key, signed"),
    ("resolve", "resolve", "settle what both sides of a merge changed"),
    ("verify", "verify", "check everything that needs no key"),
    ("review", "review", "judge a range of commits, as for a pull request"),
    ("grant", "grant", "give a role"),
    ("revoke", "revoke", "take a role away"),
    ("access", "access", "show who may do what, and why"),
    ("whoknows", "whoknows", "show who can read a key or scope"),
    ("offboard", "offboard", "take everything from someone who leaves"),
    ("exposure", "exposure", "list values still to be changed after a removal"),
    ("rekey", "rekey", "bring files to what the policy wants"),
    ("env", "env", "environments: add, list, show, protect, kind, serverkey, breakglass, …"),
    ("principal", "principal", "devices and services: request, add, list, disable, cap, …"),
    ("group", "group", "groups: create, add, remove, list, delete"),
    ("invite", "invite", "invites: create, list, revoke, countersign"),
    ("project", "project", "projects: create, list, archive"),
    ("workspace", "workspace_", "show this workspace"),
    ("policy", "policy", "the policy log: show, log, pull, push, rebase, …"),
    ("server", "server", "the policy server: dev, serve, adopt, migrate, backup, restore"),
    ("agent", "agent", "a key service of your own for stock sops and brokered files"),
    ("audit", "audit", "the audit log: list, get, count, export, witness, verify"),
    ("scan", "scan", "look for what must not enter git"),
    ("hooks", "hooks", "git hooks of this clone: install, uninstall, status"),
    ("doctor", "doctor", "check this machine and clone"),
    ("completion", "completion", "print a completion script for bash, zsh or fish"),
)

# Upstream's noun forms and the words that people type from habit → what they mean here.
ALIASES = {
    "environment": ("env",),
    "del": ("unset",),
    "rm": ("unset",),
    "delete": ("unset",),
    "ls": ("list",),
    "permission": ("access",),
}

# `zopp secret get X` → `zopp get X`
SECRET = {
    "set": "set",
    "get": "get",
    "list": "list",
    "delete": "unset",
    "unset": "unset",
    "export": "export",
    "import": "import",
}

# What only git calls: no help lists it.
HIDDEN = {"merge-driver": "mergedriver"}

MODULES = {verb: module for verb, module, _ in VERBS}
