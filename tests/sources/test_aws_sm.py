"""AWS Secrets Manager: moto's server over HTTP, and a front before it for what moto does not do."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.sources.conftest import REGION
from tests.sources.servers import Asked, Front, Reply, aws_error, free_port
from zopp.errors import Denied, FormatError, Unknown, ZoppError
from zopp.exchange import scalars
from zopp.exchange.entry import Reading
from zopp.exchange.sources import aws_sm as source

CANARY = "kanarienvogel7"
HEAD = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:"


@pytest.fixture
def client(front: Front) -> Iterator[Any]:
    """A client of the front that tries three times; the real one is the command line's, see test_import.py."""
    import boto3
    from botocore.config import Config

    made = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test").client(
        "secretsmanager", region_name=REGION, endpoint_url=front.address,
        config=Config(retries={"mode": "standard", "total_max_attempts": 3}, read_timeout=2, connect_timeout=2),
    )  # fmt: skip
    yield made
    made.close()


def read(client: Any, **options: Any) -> Reading:
    return source.read(client, region=REGION, **options)


def keys(reading: Reading) -> dict[str, object]:
    return {".".join(entry.key): entry.value for entry in reading.entries}


def left(reading: Reading) -> list[tuple[str, str, str]]:
    return sorted([(one.locator, one.status, one.reason) for one in reading.left])


def said(error: BaseException) -> str:
    return f"{error} {error!r} {getattr(error, 'hint', '')} {error.__cause__} {getattr(error, 'data', '')}"


def only(asked: Asked, action: str) -> bool:
    return asked.action == action


# --- what is there


def test_twelve_hundred_secrets(aws: Any, client: Any, front: Front) -> None:
    """Every page and every batch; each value at its own name."""
    for number in range(1200):
        aws.create_secret(Name=f"app/s{number:04}", SecretString=f"value-{number}")
    seen: list[tuple[int, int]] = []
    reading = read(client, progress=lambda done, of: seen.append((done, of)))
    assert keys(reading) == {f"APP_S{number:04}": f"value-{number}" for number in range(1200)}
    assert front.actions() == {"ListSecrets": 12, "BatchGetSecretValue": 60}
    assert all(len(asked.json["SecretIdList"]) == 20 for asked in front.asked if only(asked, "BatchGetSecretValue"))
    assert seen[-1] == (1199, 1200) and (1200, 0) in seen
    assert not reading.left and not reading.warnings
    assert reading.covers == (HEAD,)


def test_a_batch_is_never_more_than_twenty(aws: Any, client: Any, front: Front) -> None:
    for number in range(21):
        aws.create_secret(Name=f"s{number}", SecretString="x")
    assert len(read(client).entries) == 21
    sizes = [len(asked.json["SecretIdList"]) for asked in front.asked if only(asked, "BatchGetSecretValue")]
    assert sizes == [20, 1]


def test_plain_binary_and_json(aws: Any, client: Any) -> None:
    database = {"username": "u", "password": "p", "host": "h", "port": 5432, "ssl": True, "extra": None}
    nested = {"a": {"b": "1", "c": [1, 2]}, "d-e": 1.10}
    blob = bytes(range(256))
    aws.create_secret(Name="prod/stripe-key", SecretString="sk_test\n")
    aws.create_secret(Name="prod/db", SecretString=json.dumps(database))
    aws.create_secret(Name="prod/nested", SecretString=json.dumps(nested))
    aws.create_secret(Name="prod/list", SecretString='["a"]')
    aws.create_secret(Name="prod/number", SecretString="007")
    aws.create_secret(Name="prod/pin", SecretString="42")
    aws.create_secret(Name="prod/nearly", SecretString='{"a": ')
    aws.create_secret(Name="prod/empty", SecretString="{}")
    aws.create_secret(Name="prod/blob", SecretBinary=blob)
    aws.create_secret(Name="prod/text-blob", SecretBinary=b"text")
    common: dict[str, object] = {
        "PROD_STRIPE_KEY": "sk_test\n", "PROD_LIST": '["a"]', "PROD_NUMBER": "007", "PROD_PIN": "42",
        "PROD_NEARLY": '{"a": ', "PROD_EMPTY": "{}", "PROD_TEXT_BLOB": "text", "PROD_BLOB": scalars.from_bytes(blob),
    }  # fmt: skip
    fields = {
        "PROD_DB_USERNAME": "u", "PROD_DB_PASSWORD": "p", "PROD_DB_HOST": "h", "PROD_DB_PORT": "5432",
        "PROD_DB_SSL": "true", "PROD_DB_EXTRA": "null",
    }  # fmt: skip
    assert keys(read(client)) == common | fields | {"PROD_NESTED": json.dumps(nested)}
    assert keys(read(client, json="keep")) == common | {
        "PROD_DB": json.dumps(database), "PROD_NESTED": json.dumps(nested),
    }  # fmt: skip
    flat = {"PROD_NESTED_A_B": "1", "PROD_NESTED_A_C": "[1,2]", "PROD_NESTED_D_E": "1.1"}
    assert keys(read(client, json="flatten")) == common | fields | flat
    assert scalars.to_bytes(str(common["PROD_BLOB"])) == blob
    remarks = {entry.locator: entry.remarks for entry in read(client).entries}
    assert remarks["prod/nested"] == ("nested JSON as one text",) and remarks["prod/list"] == ("a list as JSON text",)


def test_addresses_ids_and_places(aws: Any, client: Any) -> None:
    aws.create_secret(Name="prod/key", SecretString="x")
    aws.create_secret(Name="top", SecretString="y")
    arn = aws.create_secret(Name="prod/db", SecretString='{"user#name": "u"}')["ARN"]
    version = aws.describe_secret(SecretId="prod/db")["VersionIdsToStages"].popitem()[0]
    found = {entry.address: entry for entry in read(client).entries}
    assert found.keys() == {"prod/key", "top", "prod/db/user#name"}
    field = found["prod/db/user#name"]
    assert (field.id, field.version) == (f"{arn}#user%23name", version)
    assert (field.key, field.alone, field.path) == (("PROD_DB_USER_NAME",), ("USER_NAME",), "prod/db")
    assert (found["prod/key"].alone, found["prod/key"].path) == (("KEY",), "prod")
    assert found["top"].id.startswith(f"{HEAD}top-") and found["top"].id.endswith("#")
    assert {one.todo for entry in found.values() for one in entry.remains} == {"delete"}


def test_tags_and_description_are_the_note(aws: Any, client: Any) -> None:
    tags = [{"Key": "team", "Value": "pay\nments"}, {"Key": "aws:cloudformation:stack-name", "Value": "x"}]
    aws.create_secret(Name="a", SecretString="x", Description="the key", Tags=[*tags, {"Key": "live", "Value": ""}])
    (entry,) = read(client).entries
    assert entry.note == "the key\nteam: pay\\nments\nlive"


def test_filters(aws: Any, client: Any, front: Front) -> None:
    for name in ("prod/a", "prod/b", "dev/a"):
        aws.create_secret(Name=name, SecretString="x", Tags=[{"Key": "team", "Value": name[-1]}])
    by_name = read(client, filters=[("name", "prod/")])
    assert sorted(keys(by_name)) == ["PROD_A", "PROD_B"]
    assert by_name.covers == (f"{HEAD}prod/",)
    both = read(client, filters=[("name", "prod/"), ("name", "dev/"), ("tag-value", "a")])
    assert sorted(keys(both)) == ["DEV_A", "PROD_A"]
    assert sorted(both.covers) == sorted([f"{entry.id.partition('#')[0]}#" for entry in both.entries])
    assert front.asked[-2].json["Filters"] == [
        {"Key": "name", "Values": ["prod/", "dev/"]}, {"Key": "tag-value", "Values": ["a"]},
    ]  # fmt: skip
    two = read(client, filters=[("name", "prod/"), ("name", "dev/")])
    assert two.covers == (f"{HEAD}prod/", f"{HEAD}dev/")
    # what a filter leaves says nothing of the rest
    assert read(client, filters=[("name", "!prod/")]).covers != (HEAD,)
    assert read(client, filters=[("name", "no-such")]).covers == ()


def test_what_gives_no_value_is_skipped_with_the_reason(aws: Any, client: Any) -> None:
    aws.create_secret(Name="kept", SecretString="x")
    aws.create_secret(Name="valueless")
    aws.create_secret(Name="leaving", SecretString="x")
    aws.delete_secret(SecretId="leaving", RecoveryWindowInDays=7)
    reading = read(client)
    assert keys(reading) == {"KEPT": "x"}
    assert left(reading) == [("leaving", "skipped", "scheduled for deletion"), ("valueless", "skipped", "has no value")]
    named = read(client, names=["kept", "valueless", "leaving", "no-such"])
    assert left(named) == [
        ("leaving", "skipped", "scheduled for deletion"), ("no-such", "rejected", "not-found"),
        ("valueless", "skipped", "has no value"),
    ]  # fmt: skip


def test_pending_is_never_read(aws: Any, client: Any) -> None:
    aws.create_secret(Name="a", SecretString="current")
    aws.put_secret_value(SecretId="a", SecretString="pending", VersionStages=["AWSPENDING"])
    assert keys(read(client)) == {"A": "current"}


def test_a_pending_version_in_an_answer_is_not_believed(aws: Any, client: Any, front: Front) -> None:
    aws.create_secret(Name="a", SecretString="x")

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        return status, body.replace(b"AWSCURRENT", b"AWSPENDING") if only(asked, "BatchGetSecretValue") else body

    front.after = after
    assert keys(read(client)) == {"A": "x"}
    assert front.actions()["GetSecretValue"] == 1


def test_rotation_and_owning_services_are_for_the_cutover_list(aws: Any, client: Any, front: Front) -> None:
    aws.create_secret(Name="plain", SecretString="x")
    aws.create_secret(Name="rotated", SecretString="x")
    aws.create_secret(
        Name="owned", SecretString="x", Tags=[{"Key": "aws:secretsmanager:owningService", "Value": "rds"}]
    )

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        if not only(asked, "ListSecrets"):
            return status, body
        page = json.loads(body)
        for row in page["SecretList"]:
            if row["Name"] == "rotated":
                row["RotationEnabled"] = True
        return status, json.dumps(page).encode()

    front.after = after
    reading = read(client)
    remains = {entry.name: [(one.todo, one.why) for one in entry.remains] for entry in reading.entries}
    assert remains == {
        "plain": [("delete", "once nothing reads it there")],
        "rotated": [("stale", "rotated by Secrets Manager")],
        "owned": [("stale", "owned by rds")],
    }
    assert reading.warnings == ("changed by AWS itself, so that the copies here go stale: rotated, owned",)


def test_replicas_are_read_in_their_primary_region(aws: Any, client: Any, front: Front) -> None:
    aws.create_secret(Name="a", SecretString="x")

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        if not only(asked, "ListSecrets"):
            return status, body
        page = json.loads(body)
        page["SecretList"][0]["PrimaryRegion"] = "us-east-1"
        return status, json.dumps(page).encode()

    front.after = after
    assert left(read(client)) == [("a", "skipped", "a replica, to be read in us-east-1")]


def test_versions(aws: Any, client: Any) -> None:
    aws.create_secret(Name="once", SecretString="1")
    aws.create_secret(Name="twice", SecretString='{"a": "1", "b": "1"}')
    aws.put_secret_value(SecretId="twice", SecretString='{"a": "2", "b": "1"}')
    reading = read(client, with_previous=True)
    assert keys(reading) == {"ONCE": "1", "TWICE_A": "2", "TWICE_B": "1"}
    ((first, second),) = reading.older
    assert (first.key, first.value, second.value) == (("TWICE_A",), "1", "1")
    current = next(entry for entry in reading.entries if entry.key == ("TWICE_A",))
    assert first.id == current.id and first.version != current.version
    assert read(client).older == ()


def test_names_instead_of_listing(aws: Any, client: Any, front: Front) -> None:
    arn = aws.create_secret(Name="prod/a", SecretString="1")["ARN"]
    aws.create_secret(Name="prod/b", SecretString="2", Description="the b")
    aws.create_secret(Name="prod/c", SecretString="3")
    reading = read(client, names=["prod/a", arn, "prod/b"])
    assert keys(reading) == {"PROD_A": "1", "PROD_B": "2"}
    assert "ListSecrets" not in front.actions()
    assert sorted(reading.covers) == sorted([f"{entry.id.partition('#')[0]}#" for entry in reading.entries])
    assert {entry.note for entry in reading.entries} == {"", "the b"}


def test_names_files() -> None:
    arn = f"{HEAD}a/b-AbCdEf"
    assert source.parse_names(f"\n# x\n prod/a \r\n{arn}\nprod/a".encode(), "n") == ["prod/a", arn]
    for data, place in ((b"", "n"), (b"# x\n", "n"), (b"a\nb c\n", "n:2"), (b"\xff", "n:1"), (b"a" * 3000, "n:1")):
        with pytest.raises(FormatError) as raised:
            source.parse_names(data, "n")
        assert raised.value.place == place
    with pytest.raises(FormatError) as raised:
        source.parse_names(f"a\n{CANARY} {CANARY}\n".encode(), "n")
    assert CANARY not in said(raised.value)


@given(st.binary(max_size=60))
def test_any_names_file_gives_names_or_an_error(data: bytes) -> None:
    try:
        names = source.parse_names(data, "n")
    except FormatError:
        return
    assert names and len(set(names)) == len(names)


# --- what is not allowed, or fails


def test_without_leave_for_batches_each_secret_is_asked_for(aws: Any, client: Any, front: Front) -> None:
    for number in range(45):
        aws.create_secret(Name=f"s{number:02}", SecretString=str(number))
    front.before = lambda asked: (
        aws_error("AccessDeniedException", CANARY) if only(asked, "BatchGetSecretValue") else None
    )
    reading = read(client)
    assert keys(reading) == {f"S{number:02}": str(number) for number in range(45)}
    assert front.actions() == {"ListSecrets": 1, "BatchGetSecretValue": 1, "GetSecretValue": 45}
    assert reading.warnings == ("BatchGetSecretValue is not allowed, so each secret is asked for by itself",)
    assert not reading.left


def test_without_leave_for_listing_names_are_asked_for(aws: Any, client: Any, front: Front) -> None:
    aws.create_secret(Name="a", SecretString="x")
    front.before = lambda asked: aws_error("AccessDeniedException", CANARY) if only(asked, "ListSecrets") else None
    with pytest.raises(Denied) as raised:
        read(client)
    assert raised.value.code == "aws.denied" and "--names" in raised.value.hint
    assert CANARY not in said(raised.value)
    assert keys(read(client, names=["a"])) == {"A": "x"}


def test_without_leave_to_describe_it_is_said_once(aws: Any, client: Any, front: Front) -> None:
    for name in ("a", "b", "c"):
        aws.create_secret(Name=name, SecretString="x")
    front.before = lambda asked: aws_error("AccessDeniedException", CANARY) if only(asked, "DescribeSecret") else None
    reading = read(client, names=["a", "b", "c", "no-such"])
    assert sorted(keys(reading)) == ["A", "B", "C"]
    assert front.actions()["DescribeSecret"] == 1
    assert len(reading.warnings) == 1 and "DescribeSecret" in reading.warnings[0]
    assert left(reading) == [("no-such", "rejected", "not-found")]


def partly(front: Front, errors: dict[str, str]) -> None:
    """Take secrets out of what a batch answers, as AWS does, and refuse them singly where it would."""

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        if not only(asked, "BatchGetSecretValue"):
            return status, body
        page = json.loads(body)
        found = [value for value in page["SecretValues"] if value["Name"] not in errors]
        failed = [
            {"SecretId": value["ARN"], "ErrorCode": errors[value["Name"]], "Message": CANARY}
            for value in page["SecretValues"]
            if value["Name"] in errors
        ]
        return status, json.dumps({"SecretValues": found, "Errors": failed}).encode()

    front.after = after


def test_a_batch_that_answers_in_part(aws: Any, client: Any, front: Front) -> None:
    """What was only throttled comes after all; what is denied is rejected by name."""
    for number in range(30):
        aws.create_secret(Name=f"s{number:02}", SecretString=str(number))
    errors = {"s03": "AccessDeniedException", "s07": "ThrottlingException", "s22": "DecryptionFailure"}
    partly(front, errors)

    def before(asked: Asked) -> Reply | None:
        if only(asked, "GetSecretValue"):
            for name, code in errors.items():
                if f":{name}-" in asked.json["SecretId"] and code != "ThrottlingException":
                    return aws_error(code, CANARY)
        return None

    front.before = before
    reading = read(client)
    assert len(reading.entries) == 28 and keys(reading)["S07"] == "7"
    assert left(reading) == [("s03", "rejected", "denied"), ("s22", "rejected", "decryption")]
    assert all(one.id.startswith(HEAD) and one.id.endswith("#") for one in reading.left)
    assert CANARY not in repr(reading)
    assert front.actions()["GetSecretValue"] == 3


def test_a_batch_that_leaves_some_out_without_a_word(aws: Any, client: Any, front: Front) -> None:
    for number in range(20):
        aws.create_secret(Name=f"s{number:02}", SecretString=str(number))

    rest: list[Any] = []

    def before(asked: Asked) -> Reply | None:
        if not only(asked, "BatchGetSecretValue") or "NextToken" not in asked.json:
            return None
        return 200, json.dumps({"SecretValues": rest, "Errors": []}).encode()

    def after(asked: Asked, status: int, body: bytes) -> Reply:
        if not only(asked, "BatchGetSecretValue"):
            return status, body
        values = json.loads(body)["SecretValues"]
        rest[:] = values[8:16]
        return status, json.dumps({"SecretValues": values[:8], "Errors": [], "NextToken": "more"}).encode()

    front.before = before
    front.after = after
    assert len(read(client).entries) == 20
    assert front.actions() == {"ListSecrets": 1, "BatchGetSecretValue": 2, "GetSecretValue": 4}


@pytest.mark.parametrize(
    "reply",
    [
        aws_error("ThrottlingException", CANARY), aws_error("TooManyRequestsException", CANARY, 429),
        aws_error("InternalServiceError", CANARY, 500), (503, CANARY.encode()), (502, b"<html>" + CANARY.encode()),
    ],
    ids=["throttling", "429", "500", "503", "502"],
)  # fmt: skip
def test_throttled_and_failing_calls_are_made_again(aws: Any, client: Any, front: Front, reply: Reply) -> None:
    for number in range(25):
        aws.create_secret(Name=f"s{number:02}", SecretString=str(number))
    failed: set[str] = set()

    def before(asked: Asked) -> Reply | None:
        if asked.action in failed:
            return None
        failed.add(asked.action)
        return reply

    front.before = before
    assert len(read(client).entries) == 25
    assert failed == {"ListSecrets", "BatchGetSecretValue"}


def test_throttling_without_an_end_stops_the_import(aws: Any, client: Any, front: Front) -> None:
    aws.create_secret(Name="a", SecretString="x")
    for action, calls in (("ListSecrets", 3), ("GetSecretValue", 3)):
        front.asked.clear()
        partly(front, {"a": "ThrottlingException"})
        front.before = lambda asked, action=action: (
            aws_error("ThrottlingException", CANARY) if only(asked, action) else None
        )
        with pytest.raises(Unknown) as raised:
            read(client)
        assert raised.value.code == "aws.busy" and CANARY not in said(raised.value)
        assert front.actions()[action] == calls


def test_one_secret_that_fails_is_rejected_and_many_are_aws(aws: Any, client: Any, front: Front) -> None:
    for name in ("a", "b", "c", "d", "e"):
        aws.create_secret(Name=name, SecretString="x")
    partly(front, dict.fromkeys("abcde", "InternalServiceError"))
    failing = {"b"}

    def before(asked: Asked) -> Reply | None:
        if only(asked, "GetSecretValue") and any(f":{name}-" in asked.json["SecretId"] for name in failing):
            return aws_error("InternalServiceError", CANARY, 500)
        return None

    front.before = before
    assert left(read(client)) == [("b", "rejected", "HTTP 500")]
    failing |= {"a", "b", "c"}
    with pytest.raises(Unknown) as raised:
        read(client)
    assert raised.value.code == "aws.busy" and CANARY not in said(raised.value)


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"])
def test_credentials_that_are_no_good(client: Any, front: Front, code: str) -> None:
    front.before = lambda asked: aws_error(code, CANARY, 403)
    with pytest.raises(Denied) as raised:
        read(client)
    assert raised.value.code == "aws.credentials" and CANARY not in said(raised.value)


def test_nobody_there() -> None:
    import boto3
    from botocore.config import Config

    client = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test").client(
        "secretsmanager", region_name=REGION, endpoint_url=f"http://127.0.0.1:{free_port()}",
        config=Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=1),
    )  # fmt: skip
    with pytest.raises(Unknown) as raised:
        read(client)
    client.close()
    assert raised.value.code == "aws.unreachable"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(aws: Any, client: Any, front: Front, moto_port: int, status: int) -> None:
    """botocore follows none; if that ever changes, credentials and secrets could go anywhere."""
    aws.create_secret(Name="a", SecretString="x")
    front.before = lambda asked: (status, b"", {"Location": f"http://127.0.0.1:{moto_port}/"})
    with pytest.raises(Unknown):
        read(client)
    assert front.actions() == {"ListSecrets": 1}


_AT = ("ListSecrets", "BatchGetSecretValue", "GetSecretValue", "DescribeSecret")
_GOOD = {"ARN": f"{HEAD}a-AbCdEf", "Name": "a"}
BODIES: list[bytes] = [
    b"", b"{", b"[]", b"null", b"<x>" + CANARY.encode(), b'"' + CANARY.encode() + b'"', b"\xff" + CANARY.encode(),
    json.dumps({"SecretList": CANARY, "SecretValues": CANARY, "SecretString": [CANARY]}).encode(),
    json.dumps({"SecretList": [CANARY, None, {"ARN": 5, "Name": CANARY}, {}]}).encode(),
    json.dumps({"SecretList": [], "NextToken": CANARY}).encode(),
    json.dumps({"__type": CANARY, "message": CANARY}).encode(),
    json.dumps({"__type": f"com.example#{CANARY}:{CANARY}", "Message": [CANARY]}).encode(),
    json.dumps({"__type": {"a": CANARY}, "code": CANARY}).encode(),
    json.dumps({"SecretValues": [], "NextToken": CANARY}).encode(),
    json.dumps({**_GOOD, "SecretBinary": CANARY + "!"}).encode(),
    json.dumps({**_GOOD, "SecretBinary": 5, "SecretString": 7}).encode(),
    json.dumps({**_GOOD, "SecretString": {"a": CANARY}, "VersionId": [CANARY], "CreatedDate": CANARY}).encode(),
    json.dumps({**_GOOD, "Tags": CANARY, "DeletedDate": CANARY, "SecretVersionsToStages": [CANARY]}).encode(),
    json.dumps({"SecretValues": [{**_GOOD, "SecretBinary": CANARY + "!"}], "Errors": CANARY}).encode(),
    b"[" * 50_000,
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize("action", _AT)
def test_bodies_that_are_none_of_secrets_manager(
    aws: Any, client: Any, front: Front, status: int, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every wrong answer at every call: a reading or a ZoppError, and nothing of the body in it."""
    aws.create_secret(Name="a", SecretString="x")
    aws.create_secret(Name="b", SecretString="x")
    partly(front, {"b": "InternalServiceError"})
    for body in BODIES:
        front.before = lambda asked, body=body: (status, body) if only(asked, action) else None
        shown = ""
        try:
            reading = read(client, names=["a", "b"] if action == "DescribeSecret" else None, with_previous=True)
            shown = repr(reading.left) + repr(reading.warnings) + repr([repr(entry) for entry in reading.entries])
        except ZoppError as exc:
            shown = said(exc)
        assert CANARY not in shown, (status, action, body)


def test_a_list_without_an_end_is_given_up(client: Any, front: Front) -> None:
    pages = iter(range(1_000_000))

    def before(asked: Asked) -> Reply:
        number = next(pages) % 7
        return 200, json.dumps({"SecretList": [], "NextToken": f"t{number}"}).encode()

    front.before = before
    with pytest.raises(Unknown):
        read(client)
    assert len(front.asked) <= 9


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'{{"a": "{CANARY}", "a": "2"}}', "duplicate-name"),
        ('{"a": ' * 300 + f'"{CANARY}"' + "}" * 300, ""),
        (f'{{"a": {"[" * 300}"{CANARY}"{"]" * 300}}}', "nested-too-deeply"),
        (f'{{"a/b": "{CANARY}", "a": {{"b": "1"}}}}', "duplicate-name"),
    ],
)
def test_json_that_cannot_be_taken_apart(aws: Any, client: Any, text: str, reason: str) -> None:
    aws.create_secret(Name="a", SecretString=text)
    reading = read(client, json="flatten")
    assert [one.reason for one in reading.left] == ([reason] if reason else [])
    assert CANARY not in repr(reading)
    assert keys(read(client, json="keep")) == {"A": text}


def test_names_cannot_write_on_a_terminal(aws: Any, client: Any) -> None:
    aws.create_secret(Name="a", SecretString='{"x\\u001b]0;y\\u0007": "1"}', Description="the\x1b[31m key")
    (entry,) = read(client).entries
    assert entry.locator.isprintable() and entry.note.isprintable()


def test_base64_is_what_binary_comes_as(aws: Any, client: Any, front: Front) -> None:
    """On the wire it is base64, in boto3 bytes: nothing is encoded twice."""
    aws.create_secret(Name="a", SecretBinary=base64.b64encode(b"x"))
    assert keys(read(client)) == {"A": base64.b64encode(b"x").decode()}
