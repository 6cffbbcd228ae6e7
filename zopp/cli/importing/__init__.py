"""The sources of `zopp import`: one module each, with its flags and how it is reached.

A module has HELP (a line), EXAMPLES, `configure(parser)` and `read(ctx, args, mapped) -> Reading`.
"""

from zopp.cli.importing import dotenv, onepassword

# In the order of the help.
SOURCES = {
    "dotenv": dotenv,
    "1password": onepassword,
}
