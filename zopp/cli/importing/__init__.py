"""The sources of `zopp import`: one module each, with its flags and how it is reached.

A module has HELP (a line), EXAMPLES, `configure(parser)` and `read(ctx, args, mapped) -> Reading`.
"""

from zopp.cli.importing import aws_sm, dotenv, onepassword, vault

# In the order of the help.
SOURCES = {
    "dotenv": dotenv,
    "1password": onepassword,
    "aws-sm": aws_sm,
    "vault": vault,
}
