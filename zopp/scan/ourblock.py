"""zopp's block in `.sops.yaml`, against the policy of the same tree (spec guard 5, attack A14).

It must stand unchanged and first among the creation rules, and no nearer `.sops.yaml` may match a managed path: else
stock sops encrypts to other recipients. Asked only when such a file, or the policy, changes.
"""

from zopp.policy import log
from zopp.repo import blocks, brokered, layout
from zopp.scan.demand import SOPS_CONFIG, Rules, folders_of


def faults(rules: Rules) -> list[tuple[str, str]]:
    """(path, what is wrong). ZoppError if the tree's policy cannot be read."""
    listed = rules.listed()
    policy = rules.tree.get([layout.POLICY])[0]
    if not listed or policy is None:
        return []
    state = log.fold(policy[1])
    groups = {path: brokered.groups(state, scope) for path, scope in listed.items() if scope in state.envs}
    config = rules.tree.get([SOPS_CONFIG])[0]
    found = []
    fault = blocks.sops_config_fault(None if config is None else config[1].decode("utf-8", "surrogateescape"), groups)
    if fault:
        found.append((SOPS_CONFIG, fault))
    for path in sorted(groups):
        for folder in folders_of(path)[:-1]:
            inner = path[len(folder) + 1 :]
            rows = rules.sops_rules(folder)
            if any(matcher is None or matcher.search(inner) for matcher, _ in rows):
                what = f"matches {path}, so stock sops would obey it instead of zopp's rules"
                found.append((f"{folder}/{SOPS_CONFIG}", what))
                break
    return found
