"""The OpenAPI document is the one that is checked in, and says what the routes are."""

import json
from pathlib import Path

from zopp.protocol import problem
from zopp_server import app, openapi

FILE = Path(__file__).resolve().parents[2] / "docs/reference/openapi.json"
TEXT = Path(__file__).resolve().parents[2] / "docs/reference/http.md"


def test_the_checked_in_document_is_that_of_the_code() -> None:
    """After a change of routes or messages: python -m zopp_server.openapi > docs/reference/openapi.json"""
    assert FILE.read_text() == openapi.text(app.ROUTES)


def test_it_is_valid_json_with_every_route() -> None:
    document = json.loads(FILE.read_text())
    assert document["openapi"] == "3.1.0"
    served = {(route.path.replace("{rest:path}", "{rest}"), route.method.lower()) for route in app.ROUTES}
    listed = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert listed - served == {("/livez", "get"), ("/readyz", "get"), ("/healthz", "get")}
    assert served <= listed


def test_every_route_stands_in_the_page_for_people() -> None:
    text = TEXT.read_text()
    for route in app.ROUTES:
        path = route.path.replace("{ws}", "WS").partition("/{rest")[0]
        assert f"{route.method} {path}" in text.replace("tile/LEVEL/…", "tile"), route.path


def test_every_problem_code_has_a_status_that_routes_document() -> None:
    document = json.loads(FILE.read_text())
    statuses = {
        status
        for operations in document["paths"].values()
        for made in operations.values()
        for status in made["responses"]
    }
    assert {str(code.status) for code in problem.CODES.values()} <= statuses
