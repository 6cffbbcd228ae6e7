"""One module per outside system that an import reads: what it says, as a `Reading`.

A module takes bytes or an open client and knows no flags; its flags are in `zopp.cli.importing`. No message holds a
value, and no text of a foreign exception, which may quote one.
"""
