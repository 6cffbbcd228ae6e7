"""What the OpenAPI document allows, and what it does not: no 5xx, no answer that the document lacks (schemathesis).

Requests are generated from the document and signed, by an admin and by a reader; half of the generated bodies name the
right workspace, so that they get past the first check.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.live import Live, Office
from zopp.protocol import signing

DOCUMENT = json.loads((Path(__file__).resolve().parents[2] / "docs/reference/openapi.json").read_text())
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = int(os.environ.get("ZOPP_HTTP_EXAMPLES", "25"))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [(path, method) for path, operations in sorted(DOCUMENT["paths"].items()) for method in sorted(operations)]


def send(session: requests.Session, office: Office, who: str, case: Any, honest: bool) -> requests.Response:
    """The case as a signed request of `who`; `honest`: under the workspace's own name and genesis."""
    case.path_parameters = {**(case.path_parameters or {})}
    if honest and "ws" in case.path_parameters:
        case.path_parameters["ws"] = office.name
    if honest and isinstance(case.body, dict) and "ws" in case.body:
        case.body["ws"] = office.now.ws
    made = requests.Request(**case.as_transport_kwargs(base_url=office.origin)).prepare()
    assert made.url is not None
    body = made.body.encode() if isinstance(made.body, str) else made.body or b""
    target = made.url
    try:
        sent = signing.sign(
            office.members[who].key,
            method=str(made.method),
            target=target,
            body=body,
            created=int(time.time()),
            nonce=os.urandom(16),
        )
        for name, value in signing.headers(sent):
            made.headers[name] = value
    except Exception:  # what cannot be signed is sent unsigned
        pass
    return session.send(made, timeout=30, allow_redirects=False)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{m} {p}" for p, m in OPERATIONS])
def test_no_server_error_and_no_undocumented_answer(office: Office, server: Live, path: str, method: str) -> None:
    office.brokered("alice-laptop", "api/production")
    operation = SCHEMA[path][method.upper()]
    session = requests.Session()
    session.trust_env = False

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), honest=st.booleans(), who=st.sampled_from(["alice-laptop", "carol-laptop"]))
    def run(case: Any, honest: bool, who: str) -> None:
        answer = send(session, office, who, case, honest)
        case.validate_response(answer, checks=CHECKS)

    with session:
        run()
    assert not server.causes
