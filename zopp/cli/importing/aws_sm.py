"""Import secrets from AWS Secrets Manager.

All secrets of one region, those that filters leave, or those that a file names. A flat JSON object becomes a key for
each field. Credentials are those of the AWS command line. Nothing is changed at AWS.
"""

import argparse
from typing import Any
from urllib.parse import urlsplit

from zopp.cli.context import Context
from zopp.cli.importing.reading import extra_missing, progress, quiet_libraries, read_source
from zopp.cli.parser import epilog
from zopp.errors import UsageError
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.sources import aws_sm as source

HELP = "AWS Secrets Manager (needs the extra aws)"
EXAMPLES = epilog(
    "zopp import aws-sm --region eu-central-1 --filter name=prod/ -e production --dry-run",
    "zopp import aws-sm --region eu-central-1 --map import.toml --yes",
    "zopp import aws-sm --region eu-central-1 --names names.txt --with-previous --yes -m 'import from AWS'",
)

_TRIES = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of `zopp import aws-sm`."""
    parser.add_argument("--region", required=True, metavar="REGION", help="the region, such as eu-central-1")
    parser.add_argument("--profile", metavar="NAME", help="a profile of the AWS configuration")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--names", metavar="FILE", help="names or ARNs, one a line, instead of listing; - reads them")
    which.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"only secrets that fit (repeatable); KEY is one of {', '.join(source.FILTERS)}",
    )
    parser.add_argument(
        "--json-as",
        choices=("split", "keep", "flatten"),
        default="split",
        help="a flat JSON object as a key for each field, every JSON as one text, or nested objects taken apart too",
    )
    parser.add_argument("--with-previous", action="store_true", help="commit AWSPREVIOUS first (needs -m)")
    parser.add_argument("--timeout", type=int, default=30, metavar="SECONDS", help="for one answer (default: 30)")


def read(ctx: Context, args: argparse.Namespace, mapped: MapFile) -> Reading:
    """Ask AWS."""
    names = None
    if args.names is not None:
        data, locator = read_source(ctx, args.names, most=source.MAX_NAMES_BYTES)
        names = source.parse_names(data, "standard input" if locator == "-" else args.names)
    filters = [_filter(text) for text in args.filter]
    if args.with_previous and args.message is None and not args.dry_run:
        raise UsageError("earlier versions become earlier commits, which need a message", hint="say -m MSG")
    if not 1 <= args.timeout <= 600:
        raise UsageError("--timeout is 1 to 600 seconds", code="timeout")
    client = _client(ctx, args)
    try:
        ctx.warn(f"{args.region}: reads are recorded in CloudTrail there")
        return source.read(
            client, region=args.region, names=names, filters=filters, json=args.json_as,
            with_previous=args.with_previous, progress=progress(ctx, "secret"),
        )  # fmt: skip
    finally:
        client.close()


def _filter(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key not in source.FILTERS or not equals or not value:
        raise UsageError(f"--filter is KEY=VALUE, and KEY one of {', '.join(source.FILTERS)}", code="aws.filter")
    return key, value


def _client(ctx: Context, args: argparse.Namespace) -> Any:
    """A client that tries again, with pauses that grow and vary, where AWS says to; TLS is verified by default."""
    try:
        import boto3
        from botocore import exceptions as aws
        from botocore.config import Config
    except ImportError:
        raise extra_missing("aws") from None
    quiet_libraries()
    config = Config(
        connect_timeout=min(10, args.timeout), read_timeout=args.timeout,
        retries={"mode": "standard", "total_max_attempts": _TRIES}, user_agent_extra="zopp",
    )  # fmt: skip
    try:
        session = boto3.session.Session(profile_name=args.profile)
        client = session.client("secretsmanager", region_name=args.region, config=config)
    except aws.ProfileNotFound:
        raise UsageError(
            "there is no such AWS profile", code="aws.profile", hint="aws configure list-profiles"
        ) from None
    except (aws.BotoCoreError, ValueError):
        raise UsageError(
            "the AWS configuration, or the region, cannot be used", code="aws.config", hint="aws configure list"
        ) from None
    address = urlsplit(client.meta.endpoint_url)
    if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise UsageError(
            "over http the secrets would travel in the clear", code="aws.http", hint="unset AWS_ENDPOINT_URL"
        )

    def waiting(attempts: int = 1, **_: object) -> None:
        if attempts > 1:
            ctx.progress(f"AWS asks to wait ({attempts} of {_TRIES})")

    client.meta.events.register_first("needs-retry.secrets-manager", waiting)
    return client
