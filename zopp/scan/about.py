"""Titles and links of rules, for SARIF. Loads the catalogue; not on the hook's way."""

_OTHERS = {
    "not-encrypted": "a file that the repository's rules want encrypted is not",
    "clear-value": "a value that should be encrypted is not",
    "clear-comment": "a comment that should be encrypted is not",
    "bad-ciphertext": "an encrypted value is not wholly one",
    "selector": "the file's own selector leaves in the clear what a rule wants encrypted",
    "sops-metadata": "the sops metadata of a file is incomplete",
    "unlisted": "a sops file that no manifest lists",
    "link": "a link where an encrypted file should be",
    "lfs-pointer": "a Git LFS pointer where an encrypted file should be",
    "sops-rules": "zopp's rules for stock sops were changed",
    "decrypted-copy": "a decrypted copy of a file",
    "env-file": "a credential in a plain .env file",
    "remains": "what an editor or a merge left of a file that must be encrypted",
    "own-secret": "a value of the project's own encrypted files",
    "generic-secret": "a secret behind a credential word",
    "kubernetes-secret": "a value of a Kubernetes Secret",
    "binary-key": "private key material in binary",
}


def of(rule: str) -> "tuple[str, str]":
    """(title, link, "" if it has none) of a rule id."""
    if rule in _OTHERS:
        return _OTHERS[rule], ""
    from zopp.scan.catalogue import make

    found = next((each for each in make.rules() if each.id == rule), None)
    return (found.title, found.link) if found else (f"a rule of this repository: {rule}", "")
