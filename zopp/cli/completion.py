"""Print a completion script. It completes verbs, environments and key names, without decrypting and without network.

bash: source <(zopp completion bash)     zsh: source <(zopp completion zsh)     fish: zopp completion fish | source
"""

import argparse

from zopp.cli.context import Context
from zopp.cli.parser import epilog
from zopp.cli.verbs import VERBS
from zopp.errors import ZoppError
from zopp.repo.environment import names, open_environment, scope_of
from zopp.repo.exposure import dotted
from zopp.repo.workspace import open_workspace

EXAMPLES = epilog("zopp completion bash > ~/.local/share/bash-completion/completions/zopp")

_BASH = """_zopp() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words
    if [ "$COMP_CWORD" -eq 1 ]; then words="{verbs}"
    elif [ "$prev" = -e ] || [ "$prev" = --env ]; then words=$(zopp completion --words envs 2>/dev/null)
    else case $verb in
        get|set|unset|whoknows|history|blame|rollback) words=$(zopp completion --words keys 2>/dev/null);;
        grant|revoke|access|offboard) words=$(zopp completion --words subjects 2>/dev/null);;
        merge) words="--continue --abort $(git for-each-ref --format='%(refname:short)' refs/heads refs/remotes)";;
        hooks) words="install uninstall status";;
        *) COMPREPLY=(); return;;
    esac; fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _zopp zopp
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n" + _BASH
_FISH = """complete -c zopp -f -n __fish_use_subcommand -a "{verbs}"
complete -c zopp -f -s e -l env -x -a "(zopp completion --words envs 2>/dev/null)"
complete -c zopp -f -n "__fish_seen_subcommand_from get set unset whoknows history blame rollback" \\
    -a "(zopp completion --words keys 2>/dev/null)"
complete -c zopp -f -n "__fish_seen_subcommand_from merge" \\
    -a "--continue --abort (git for-each-ref --format='%(refname:short)' refs/heads refs/remotes 2>/dev/null)"
complete -c zopp -f -n "__fish_seen_subcommand_from hooks" -a "install uninstall status"
complete -c zopp -f -n "__fish_seen_subcommand_from grant revoke access offboard" \\
    -a "(zopp completion --words subjects 2>/dev/null)"
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp completion`."""
    parser.add_argument("shell", metavar="SHELL", nargs="?", choices=tuple(_SCRIPTS), help="bash, zsh or fish")
    parser.add_argument("--words", choices=("envs", "keys", "subjects"), help=argparse.SUPPRESS)


def run(ctx: Context, args: argparse.Namespace) -> int:
    """Do it."""
    if args.words:
        try:
            for word in _words(ctx, args.words):
                ctx.out(word)
        except ZoppError:
            return 1  # a shell that completes has no use for a message
        return 0
    ctx.out(_SCRIPTS[args.shell or "bash"].format(verbs=" ".join(verb for verb, _, _ in VERBS)).rstrip("\n"))
    return 0


def _words(ctx: Context, kind: str) -> list[str]:
    ws = open_workspace(ctx.cwd, ctx.env, recover=False, needs_receipt=False)
    if kind == "envs":
        return names(ws)
    if kind == "subjects":
        services = [name for name, p in ws.state.principals.items() if p.user is None]
        return [*ws.state.users, *ws.state.groups, *services]
    env = open_environment(ws, scope_of(ws, None))
    return [dotted(leaf) for file in env.files.values() if file.sops for leaf in file.sops.paths()]
