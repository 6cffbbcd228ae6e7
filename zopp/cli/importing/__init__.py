"""The sources of `zopp import`: one module each, with its flags and how it is reached.

A module has HELP (a line), EXAMPLES, `configure(parser)` and `read(ctx, args, mapped) -> Reading`.
"""

from zopp.cli.importing import (
    aws_sm,
    chamber,
    csv_,
    doppler,
    dotenv,
    dotenvx,
    fnox,
    infisical,
    json_,
    kubernetes,
    onepassword,
    sops,
    toml_,
    vault,
    yaml_,
)

# In the order of the help.
SOURCES = {
    "dotenv": dotenv,
    "json": json_,
    "yaml": yaml_,
    "toml": toml_,
    "csv": csv_,
    "sops": sops,
    "dotenvx": dotenvx,
    "1password": onepassword,
    "aws-sm": aws_sm,
    "vault": vault,
    "doppler": doppler,
    "infisical": infisical,
    "fnox": fnox,
    "kubernetes": kubernetes,
    "chamber": chamber,
}
