"""Secrets of AWS Secrets Manager in one region, through a boto3 client.

Values come in batches of 20, one by one where the batch is not allowed or answers only in part. Messages of AWS, and
of botocore, which quotes bodies that it cannot read, are never shown: only known codes are. Source: importers.md §5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from zopp.errors import Denied, FormatError, Unknown, UsageError
from zopp.exchange import jsontext
from zopp.exchange.entry import Entry, Left, Progress, Reading, Remaining
from zopp.exchange.labels import label
from zopp.exchange.scalars import from_bytes
from zopp.printable import printable

Json = Literal["split", "keep", "flatten"]
FILTERS = ("all", "description", "name", "owning-service", "primary-region", "tag-key", "tag-value")

# BatchGetSecretValue takes no more; AWS refuses, moto does not.
BATCH = 20
MAX_SECRETS = 20_000
MAX_NAMES_BYTES = 1 << 20
# Secrets one after the other for which AWS has no answer: then it is AWS.
MAX_FAILURES = 3

_DENIED = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "InvalidSignatureException"}
_CREDENTIALS |= {"SignatureDoesNotMatch", "UnrecognizedClientException", "IncompleteSignature", "OptInRequired"}
_CREDENTIALS |= {"MissingAuthenticationToken", "MissingAuthenticationTokenException", "NotAuthorized"}
_NOT_FOUND = "ResourceNotFoundException"
_REFUSED = {"InvalidRequestException", "InvalidParameterException", "ValidationException", "DecryptionFailure"}
_NO_SUCH_CALL = {"UnknownOperationException", "InvalidAction", "NotImplemented"}
_THROTTLED = {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "SlowDown"}
_THROTTLED |= {"RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "LimitExceededException"}
_KNOWN = _DENIED | _REFUSED | _NO_SUCH_CALL | _THROTTLED | {_NOT_FOUND}


class _Failed(Exception):
    """A call that AWS answered with an error. `code`: one of the above, or ''. `deleted`, `no_value`: what its message
    says in the only two cases in which the code does not tell."""

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__()
        self.code = code if code in _KNOWN else ""
        self.status = status
        self.deleted = code == "InvalidRequestException" and "delet" in message.lower()
        self.no_value = code == _NOT_FOUND and "staging label" in message


def parse_names(data: bytes, place: str) -> list[str]:
    """One name or ARN a line; blank lines, and those that begin with #, say nothing. FormatError with the line."""
    names = []
    for number, line in enumerate(data.split(b"\n"), 1):
        text = line.decode("ascii", "replace").strip()
        if not text or text.startswith("#"):
            continue
        if not re.fullmatch(r"[A-Za-z0-9/_+=.@:-]{1,2048}", text):
            raise FormatError("not the name or ARN of a secret", code="aws.names", place=f"{place}:{number}")
        names.append(text)
    if not names:
        raise FormatError("names no secret", code="aws.names", place=place)
    return list(dict.fromkeys(names))


def read(
    client: Any,
    *,
    region: str,
    names: Sequence[str] | None = None,
    filters: Sequence[tuple[str, str]] = (),
    json: Json = "split",
    with_previous: bool = False,
    progress: Progress = lambda done, of: None,
) -> Reading:
    """The current values of all secrets in `region`, of those that `filters` (key, value) leave, or of `names` (names
    or ARNs, without listing). `with_previous`: those before them are `older`.

    Denied if listing is not allowed or the credentials are no good; Unknown if AWS does not answer, or only to wait.
    How long and how often a call is tried is the client's configuration."""
    return _Reader(client, region, json, with_previous, progress).read(names, filters)


@dataclass(kw_only=True, slots=True)
class _Secret:
    """What is known of a secret without its value. `asked`: what to ask for it by. `stale`: who changes it there."""

    asked: str
    name: str
    arn: str = ""
    note: str = ""
    stale: str = ""
    out: str = ""
    previous: bool | None = None


@dataclass(slots=True)
class _Reader:
    client: Any
    region: str
    json: Json
    with_previous: bool
    progress: Progress
    left: list[Left] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    covers: list[str] = field(default_factory=list)
    batches: bool = True
    described: bool = True
    failures: int = 0

    def read(self, names: Sequence[str] | None, filters: Sequence[tuple[str, str]]) -> Reading:
        listed = self._list(filters) if names is None else self._named(names)
        wanted = []
        for secret in listed:
            if secret.out:
                self._skip(secret, secret.out)
            else:
                wanted.append(secret)
        entries: list[Entry] = []
        older: list[Entry] = []
        stale: list[str] = []
        seen: set[str] = set()
        for secret, value in self._values(wanted):
            if secret.arn in seen:  # by its name and by its ARN
                continue
            seen.add(secret.arn)
            made = self._entries(secret, value)
            entries += made
            if secret.stale and made:
                stale.append(printable(secret.name))
            if self.with_previous and made and secret.previous is not False:
                older += self._previous(secret)
        if names is not None:
            self.covers = [f"{arn}#" for arn in seen]
        if stale:
            self.warnings.append("changed by AWS itself, so that the copies here go stale: " + ", ".join(stale))
        return Reading(
            kind="aws-sm", place=f"Secrets Manager in {self.region}", entries=tuple(entries), left=tuple(self.left),
            warnings=tuple(self.warnings), covers=tuple(self.covers), older=(tuple(older),) if older else (),
        )  # fmt: skip

    # --- which secrets there are

    def _list(self, filters: Sequence[tuple[str, str]]) -> list[_Secret]:
        asked: dict[str, Any] = {"MaxResults": 100, "IncludePlannedDeletion": True}
        if filters:
            keys = dict.fromkeys([key for key, _ in filters])
            asked["Filters"] = [{"Key": key, "Values": [v for k, v in filters if k == key]} for key in keys]
        found: list[_Secret] = []
        tokens: set[str] = set()
        while True:
            try:
                page = self._call("list_secrets", **asked)
            except _Failed as exc:
                raise self._whole(exc, "list the secrets", "secretsmanager:ListSecrets") from None
            rows = page.get("SecretList")
            found += [self._known(row) for row in rows if _is_row(row)] if isinstance(rows, list) else []
            self.progress(len(found), 0)
            token = page.get("NextToken")
            if not token:
                break
            if not isinstance(token, str) or token in tokens or len(found) > MAX_SECRETS:
                raise Unknown("the list of secrets does not end", code="aws.answer", place=self.region)
            tokens.add(token)
            asked["NextToken"] = token
        self.covers = _covers(found, filters)
        return found

    def _named(self, names: Sequence[str]) -> list[_Secret]:
        found = []
        for number, name in enumerate(names):
            self.progress(number, len(names))
            found.append(self._describe(name))
        if not self.described:
            self.warnings.append(
                "secretsmanager:DescribeSecret is not allowed, so it is not known which secrets AWS changes by itself"
            )
        return found

    def _describe(self, name: str) -> _Secret:
        bare = _Secret(asked=name, name=_name_of(name), arn=name if _whole_arn(name) else "")
        if not self.described:
            return bare
        try:
            row = self._call("describe_secret", SecretId=name)
        except _Failed as exc:
            # whatever else is wrong with it is said of its value
            self.described = exc.code not in _DENIED
            return bare
        if not _is_row(row):
            return bare
        secret = self._known(row)
        secret.asked = name
        return secret

    def _known(self, row: Mapping[str, Any]) -> _Secret:
        primary = row.get("PrimaryRegion")
        stages = row.get("SecretVersionsToStages", row.get("VersionIdsToStages"))
        labels = [label for each in stages.values() for label in each] if isinstance(stages, dict) else []
        secret = _Secret(asked=row["ARN"], arn=row["ARN"], name=row["Name"], note=_note(row))
        secret.previous = "AWSPREVIOUS" in labels
        if row.get("DeletedDate") is not None:
            secret.out = "scheduled for deletion"
        elif isinstance(primary, str) and primary and primary != self.region:
            secret.out = f"a replica, to be read in {printable(primary)}"
        elif "AWSCURRENT" not in labels:
            secret.out = "has no value"
        owner = row.get("OwningService")
        if isinstance(owner, str) and owner:
            secret.stale = f"owned by {printable(owner)}"
        elif row.get("RotationEnabled") is True:
            secret.stale = "rotated by Secrets Manager"
        return secret

    # --- values

    def _values(self, secrets: Sequence[_Secret]) -> Iterator[tuple[_Secret, Mapping[str, Any]]]:
        """Each secret with its answer; those without one are put into `left`."""
        for start in range(0, len(secrets), BATCH):
            chunk = secrets[start : start + BATCH]
            answers = self._batch([secret.asked for secret in chunk]) if self.batches else {}
            for number, secret in enumerate(chunk):
                self.progress(start + number, len(secrets))
                value = answers.get(secret.asked) or self._single(secret, "AWSCURRENT")
                if value is not None:
                    secret.arn, secret.name = value["ARN"], value["Name"]
                    yield secret, value

    def _batch(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The values of at most 20 secrets, by id. What is missing is to be asked for one by one: there the reason for
        each comes without guessing, and what was only throttled comes after all."""
        answers: dict[str, Mapping[str, Any]] = {}
        asked: dict[str, Any] = {"SecretIdList": list(ids)}
        for _ in range(BATCH):
            try:
                page = self._call("batch_get_secret_value", **asked)
            except _Failed as exc:
                if exc.code in _DENIED or exc.code in _NO_SUCH_CALL:
                    self.batches = False
                    self.warnings.append("BatchGetSecretValue is not allowed, so each secret is asked for by itself")
                return answers
            values = page.get("SecretValues")
            for value in values if isinstance(values, list) else []:
                if _is_value(value, "AWSCURRENT"):
                    answers |= {value["ARN"]: value, value["Name"]: value}
            token = page.get("NextToken")
            if not token:
                break
            asked["NextToken"] = token
        return answers

    def _single(self, secret: _Secret, stage: str) -> Mapping[str, Any] | None:
        try:
            value: Mapping[str, Any] = self._call("get_secret_value", SecretId=secret.asked, VersionStage=stage)
        except _Failed as exc:
            self._leave(secret, stage, exc)
            return None
        self.failures = 0
        if _is_value(value, stage):
            return value
        self._reject(secret, "malformed", "the answer for it is not one of Secrets Manager")
        return None

    def _leave(self, secret: _Secret, stage: str, exc: _Failed) -> None:
        gone = exc.code == _NOT_FOUND
        if gone and stage != "AWSCURRENT":
            return
        if exc.code in _THROTTLED or exc.status == 429:
            raise self._whole(exc, "read", "") from None
        self.failures = self.failures + 1 if exc.status >= 500 else 0
        if self.failures >= MAX_FAILURES:
            raise Unknown("AWS fails on one secret after the other", code="aws.busy", place=self.region) from None
        if exc.deleted:
            self._skip(secret, "scheduled for deletion")
        elif gone and (exc.no_value or secret.arn):
            self._skip(secret, "has no value")
        elif gone:
            self._reject(secret, "not-found", "there is no such secret in this region")
        elif exc.code in _DENIED:
            self._reject(
                secret, "denied", "secretsmanager:GetSecretValue, or kms:Decrypt of its key, is not allowed for it"
            )
        elif exc.code == "DecryptionFailure":
            self._reject(secret, "decryption", "its KMS key does not decrypt it")
        else:
            self._reject(secret, exc.code or f"HTTP {exc.status}", f"could not be read ({exc.code or exc.status})")

    def _previous(self, secret: _Secret) -> list[Entry]:
        value = self._single(secret, "AWSPREVIOUS")
        return [] if value is None else self._entries(secret, value, quiet=True)

    # --- what they hold

    def _entries(self, secret: _Secret, value: Mapping[str, Any], *, quiet: bool = False) -> list[Entry]:
        binary, text = value.get("SecretBinary"), value.get("SecretString")
        if isinstance(binary, bytes):
            return [self._entry(secret, value, "", from_bytes(binary))]
        if not isinstance(text, str):
            if not quiet:
                self._skip(secret, "has no value")
            return []
        fields: dict[str, tuple[str, str]] = {}
        remark = ""
        if self.json != "keep":
            try:
                fields, remark = _fields(text, flatten=self.json == "flatten")
            except ValueError as exc:
                why = "duplicate-name" if isinstance(exc, jsontext.Duplicate) else "nested-too-deeply"
                self._reject(secret, why, "its JSON cannot be taken apart; --json-as keep takes it as it is")
                return []
        if not fields:
            return [self._entry(secret, value, "", text, remark)]
        return [self._entry(secret, value, name, own, remark) for name, (own, remark) in fields.items()]

    def _entry(self, secret: _Secret, value: Mapping[str, Any], name: str, text: str, remark: str = "") -> Entry:
        """`name` is '' for a secret that is one value: it stands in the folder that its name says."""
        folder, _, last = secret.name.rpartition("/")
        path, own = (secret.name, name) if name else (folder, last)
        place = printable(secret.name)
        remains = (
            Remaining(todo="stale", place=place, why=secret.stale)
            if secret.stale
            else Remaining(todo="delete", place=place, why="once nothing reads it there")
        )
        version = value.get("VersionId")
        return Entry(
            locator=printable(f"{path}/{own}" if path else own), id=f"{secret.arn}#{quote(name, safe='')}", name=own,
            path=path, key=(label(f"{path}/{own}"),), alone=(label(own),), value=text, note=secret.note,
            version=version if isinstance(version, str) else "", remains=(remains,),
            remarks=tuple([each for each in (remark, secret.stale) if each]),
        )  # fmt: skip

    # --- what goes wrong

    def _skip(self, secret: _Secret, reason: str) -> None:
        self.left.append(Left(locator=printable(secret.name), reason=reason, name=secret.name))

    def _reject(self, secret: _Secret, reason: str, says: str) -> None:
        # Without an ARN nothing is recorded of it: the id is one that no recorded one begins with.
        self.left.append(
            Left(
                locator=printable(secret.name), reason=reason, status="rejected", name=secret.name,
                id=f"{secret.arn}#" if secret.arn else f"?{secret.name}", says=f"{printable(secret.name)}: {says}",
            )
        )  # fmt: skip

    def _whole(self, exc: _Failed, what: str, action: str) -> Denied | Unknown:
        if exc.code in _DENIED:
            return Denied(
                f"not allowed to {what}", code="aws.denied", place=self.region,
                hint=f"allow {action}, or name the secrets with --names FILE",
            )  # fmt: skip
        if exc.code in _THROTTLED or exc.status == 429:
            return Unknown(
                "AWS asks to wait, also after several tries", code="aws.busy", place=self.region,
                hint="try again later; nothing was imported",
            )  # fmt: skip
        return Unknown(f"could not {what} ({exc.code or exc.status})", code="aws.answer", place=self.region)

    def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """One call, with the tries that the client makes. _Failed for AWS's errors; Denied, UsageError or Unknown for
        what concerns every call."""
        from botocore import exceptions as aws

        try:
            answer = getattr(self.client, operation)(**arguments)
        except aws.ClientError as exc:
            error = exc.response.get("Error", {})
            code, message = str(error.get("Code", "")), str(error.get("Message", ""))
            status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _CREDENTIALS:
                raise Denied(
                    "AWS does not accept the credentials", code="aws.credentials", place=self.region,
                    hint="see who you are: aws sts get-caller-identity",
                ) from None  # fmt: skip
            raise _Failed(code, status, message) from None
        except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError):
            raise UsageError(
                "there are no AWS credentials", code="aws.credentials",
                hint="name a profile with --profile NAME, or log in: aws sso login",
            ) from None  # fmt: skip
        except aws.SSLError:
            raise Unknown(
                "its TLS certificate does not verify", code="aws.tls", place=self.region,
                hint="name the certificate of a proxy's authority with AWS_CA_BUNDLE=FILE",
            ) from None  # fmt: skip
        except (aws.HTTPClientError, aws.ConnectionError):
            raise Unknown("Secrets Manager does not answer", code="aws.unreachable", place=self.region) from None
        except Exception:  # botocore's parsers raise many types, some with the body for a text
            raise Unknown("the answer is not one of Secrets Manager", code="aws.answer", place=self.region) from None
        if not isinstance(answer, Mapping):
            raise Unknown("the answer is not one of Secrets Manager", code="aws.answer", place=self.region)
        return answer


def _is_row(row: object) -> bool:
    return isinstance(row, Mapping) and isinstance(row.get("ARN"), str) and isinstance(row.get("Name"), str)


def _is_value(value: object, stage: str) -> bool:
    """Whether it is a value, and the version that was asked for: never one that is only pending."""
    if not isinstance(value, Mapping) or not _is_row(value):
        return False
    stages = value.get("VersionStages")
    return not isinstance(stages, list) or not stages or stage in stages


def _covers(found: Iterable[_Secret], filters: Sequence[tuple[str, str]]) -> list[str]:
    """What the ids of everything that was listed begin with: all of the account in the region, or with the one filter
    that is a prefix of names what begins so. Of other filters each secret for itself, as others may be there."""
    arns = [secret.arn for secret in found]
    heads = {":".join(arn.split(":", 6)[:6]) + ":" for arn in arns}
    prefixes = [value for key, value in filters if key == "name" and not value.startswith("!")]
    if filters and (len(prefixes) != len(filters) or len(heads) != 1):
        return [f"{arn}#" for arn in arns]
    return [head + prefix for head in sorted(heads) for prefix in prefixes or [""]]


def _name_of(text: str) -> str:
    """The name in an ARN, without AWS's six characters; a name as it is."""
    if not text.startswith("arn:"):
        return text
    return re.sub("-[A-Za-z0-9]{6}$", "", text.rpartition(":")[2])


def _whole_arn(text: str) -> bool:
    return re.fullmatch(r"arn:.*:secret:.+-[A-Za-z0-9]{6}", text) is not None


def _note(row: Mapping[str, Any]) -> str:
    """Description and tags, AWS's own left out, as lines of a comment."""
    description, tags = row.get("Description"), row.get("Tags")
    lines = [description] if isinstance(description, str) and description else []
    for tag in tags if isinstance(tags, list) else []:
        key, value = (tag.get("Key"), tag.get("Value")) if isinstance(tag, Mapping) else (None, None)
        if isinstance(key, str) and not key.startswith("aws:"):
            lines.append(f"{key}: {value}" if isinstance(value, str) and value else key)
    return "\n".join(map(printable, lines))


def _fields(text: str, *, flatten: bool) -> tuple[dict[str, tuple[str, str]], str]:
    """({name: (value, remark)}, remark for the whole): the fields of a flat object, or of any if `flatten`; {} for
    everything that is one value. ValueError if it is JSON that cannot be taken apart."""
    try:
        tree = jsontext.parse(text)
    except jsontext.Duplicate:
        raise
    except ValueError:
        return {}, ""
    if not isinstance(tree, dict):
        return {}, f"{jsontext.kind(tree)} as JSON text" if isinstance(tree, list) else ""
    if not tree:
        return {}, "an empty JSON object"
    if not flatten and any(isinstance(value, (dict, list)) for value in tree.values()):
        return {}, "nested JSON as one text"
    made: dict[str, tuple[str, str]] = {}
    stack = [("", tree)]
    while stack:
        above, node = stack.pop()
        for name, value in node.items():
            path = f"{above}/{name}" if above else name
            if isinstance(value, dict) and value:
                stack.append((path, value))
                continue
            if path in made:  # {"a/b": 1, "a": {"b": 2}}
                raise jsontext.Duplicate("two fields of one name")
            kind = jsontext.kind(value) if isinstance(value, (dict, list)) else ""
            made[path] = jsontext.text(value), f"{kind} as JSON text" if kind else ""
    return made, ""
