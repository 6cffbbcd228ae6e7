"""What a range of commits does to secrets, recipients and policy, for a reviewer; no key is needed.

`sides` opens base and head from git's objects, `judging` compares them, `keyed` adds what only plaintext tells,
`markdown`, `sarif` and `text` say it. Everything in a `model.Review` is a name or a class, never a value.
"""
