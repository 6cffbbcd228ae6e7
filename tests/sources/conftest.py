"""Servers for the network sources: started once a session where that is dear, told apart by mounts and resets. The real
sops, and foreign .env parsers, for the others."""

import itertools
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.oracle.conftest import sops  # noqa: F401  (the real sops)
from tests.sources import parsers
from tests.sources.servers import Bao, Front, Standin, moto
from zopp.exchange.sources.vault_http import Server

REGION = "eu-central-1"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    made = Bao(tmp_path_factory.mktemp("bao"))
    yield made
    made.stop()


@pytest.fixture
def standin() -> Iterator[Standin]:
    made = Standin()
    yield made
    made.stop()


@pytest.fixture(params=["openbao", "standin"])
def vault(request: pytest.FixtureRequest) -> "Bao | Standin":
    """The real server and the stand-in, held to the same expectations."""
    found: Bao | Standin = request.getfixturevalue("bao" if request.param == "openbao" else "standin")
    return found


@pytest.fixture
def kv(vault: "Bao | Standin") -> str:
    """A new KV engine of version 2."""
    mount = f"kv{next(_numbers)}"
    vault.mount(mount, 2)
    return mount


@pytest.fixture
def bao_kv(bao: Bao) -> str:
    """The same at the real server only."""
    mount = f"kv{next(_numbers)}"
    bao.mount(mount, 2)
    return mount


class Impatient(Server):
    """A server that is asked again at once; `waits` says how long it would have been."""

    def __init__(self, address: str, **options: Any) -> None:
        self.waits: list[float] = []
        options.setdefault("pause", self.waits.append)
        super().__init__(address, **options)


@pytest.fixture
def server(vault: "Bao | Standin") -> Iterator[Server]:
    made = Impatient(vault.address)
    made.use_token(vault.root)
    yield made
    made.close()


@pytest.fixture(scope="session")
def moto_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with moto(tmp_path_factory.mktemp("moto")) as port:
        yield port


@pytest.fixture
def front(moto_port: int) -> Iterator[Front]:
    """A front before an empty moto."""
    with urllib.request.urlopen(
        urllib.request.Request(f"http://127.0.0.1:{moto_port}/moto-api/reset", method="POST"), timeout=30
    ) as answer:
        assert json.load(answer) == {"status": "ok"}
    made = Front(moto_port)
    yield made
    made.stop()


@pytest.fixture
def aws(moto_port: int, front: Front) -> Iterator[Any]:
    """A client of moto itself, to fill it."""
    import boto3

    made = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test").client(
        "secretsmanager", region_name=REGION, endpoint_url=f"http://127.0.0.1:{moto_port}"
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def in_node() -> Iterator[parsers.Node]:
    """npm dotenv, dotenvx and node's own parser."""
    node = parsers.Node()
    try:
        yield node
    finally:
        node.close()


@pytest.fixture(scope="session")
def python_dotenv() -> Iterator[parsers.Python]:
    """python-dotenv."""
    python = parsers.Python()
    try:
        yield python
    finally:
        python.close()
