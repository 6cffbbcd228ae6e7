"""age identities and recipients, Ed25519 signing keys, SSHSIG, and where private keys are found.

No policy here: these modules say whether bytes are a sound key, age file or signature, never whether its holder may
do something. Lean, except `store`, `recovery` and `keychain`; importing the package itself loads nothing.
"""
