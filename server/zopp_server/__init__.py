"""The policy server. Imports zopp's pure packages and `zopp.keys`; never its client, working copy or command line."""
