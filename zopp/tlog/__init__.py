"""The transparency log's parts, pure: tree, proofs, tiles, notes, checkpoints, entries (policy-server.md §5).

Every format is an RFC's or C2SP's, so that somebody else's tool can check the server. Storage, locking and fetching
are the server's and the client's; trust in a log key comes from the policy log (`server.set`), never from here.
"""
