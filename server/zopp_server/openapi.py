"""The OpenAPI 3.1 document, made from the table of routes and the tables of messages, so that it cannot drift."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zopp.policy import fields as f
from zopp.protocol import messages, problem
from zopp.tlog.entry import PURPOSES

if TYPE_CHECKING:
    from zopp_server.app import Route

COMMON = ("bad_request", "too_large", "bad_signature", "quota", "internal", "busy", "audit_unavailable", "recovery",
          "unknown_outcome")  # fmt: skip
"""What every route may answer."""

_RELEASE_REQUEST: dict[str, Any] = {
    "type": "object",
    "properties": {
        "env": f.ENV.schema,
        "idem": f.ID128.schema,
        "items": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "items": {
                "type": "object",
                "properties": {"b": f.BYTES32.schema, "e": f.BYTES32.schema, "path": {"type": "string"}},
                "required": ["b", "e"],
                "additionalProperties": False,
            },
        },
        "purpose": {"enum": list(PURPOSES)},
        "size": f.SEQ.schema,
        "v": {"const": 1},
        "ws": f.HEX32.schema,
    },
    "required": ["idem", "items", "purpose", "size", "v", "ws"],
    "additionalProperties": False,
}
_RELEASE_ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "consistency": {"type": "array", "items": f.BYTES32.schema},
        "id": f.ID128.schema,
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "reason": {"anyOf": [{"type": "null"}, f.TEXT.schema]},
                    "receipt": {"type": ["object", "null"]},
                    "result": {"enum": ["released", "denied", "unmatched"]},
                },
                "required": ["reason", "receipt", "result"],
                "additionalProperties": False,
            },
        },
        "policy": {"type": "object"},
        "sealed": {"type": "string"},
        "v": {"const": 1},
    },
    "required": ["consistency", "id", "items", "policy", "sealed", "v"],
    "additionalProperties": False,
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes and the health checks."""
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.path.replace("{rest:path}", "{rest}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    for path in ("/livez", "/readyz", "/healthz"):
        answers: dict[str, Any] = {"200": {"description": "yes", "content": {"application/json": {}}}}
        if path != "/livez":
            answers["503"] = {"description": "no, with reasons", "content": {"application/json": {}}}
        paths[path] = {"get": {"summary": "Health", "operationId": path[1:], "responses": answers}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "zopp policy server",
            "version": "1",
            "description": "See docs/reference/http.md. Requests are signed by the profile of RFC 9421 named there.",
        },
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {"Problem": _problem()}},
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    if "{ws}" in route.path:
        parameters.append({"name": "ws", "in": "path", "required": True, "schema": {"type": "string"}})
    if "{rest:path}" in route.path:
        parameters.append({"name": "rest", "in": "path", "required": True, "schema": {"type": "string"}})
    for name, kind in (route.query or {}).items():
        schema: dict[str, Any] = f.SEQ.schema if kind == "int" else {"type": "string", "minLength": 1, "maxLength": 256}
        parameters.append({"name": name, "in": "query", "required": False, "schema": schema})
    made: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.method.lower() + route.path.replace("{rest:path}", "rest").replace("/", "_"),
        "x-callers": list(route.callers),
        "x-nonce": route.nonce,
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.request is not None:
        schema = _RELEASE_REQUEST if route.request == "release" else messages.schema(route.request, answer=False)
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return made


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if route.answer is not None:
        content["schema"] = _RELEASE_ANSWER if route.answer == "release" else messages.schema(route.answer, answer=True)
    found: dict[str, Any] = {str(route.status): {"description": "yes", "content": {route.type: content}}}
    codes = (*COMMON, *route.problems, *(("clock_skew", "replayed") if route.callers else ()))
    for status in sorted({problem.CODES[code].status for code in codes}):
        named = sorted({code for code in codes if problem.CODES[code].status == status})
        found[str(status)] = {
            "description": ", ".join(named),
            "content": {problem.CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "code": {"enum": sorted(problem.CODES)},
            "detail": {"type": "string"},
            "next": {"type": "string"},
            "request": {"anyOf": [{"type": "null"}, f.ID128.schema]},
            "status": {"type": "integer"},
            "title": {"type": "string"},
            "type": {"const": "about:blank"},
        },
        "required": ["code", "detail", "next", "request", "status", "title", "type"],
    }


def text(routes: Iterable[Route]) -> str:
    """The document as it is checked in: `docs/reference/openapi.json`."""
    return json.dumps(document(routes), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    import sys

    from zopp_server.app import ROUTES

    sys.stdout.write(text(ROUTES))
