"""Any bytes give each source a Reading or a ZoppError, and a Reading of any bytes gives a plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from tests.sources.made import AgeKey, DotenvxKey, dotenvx
from zopp.errors import ZoppError
from zopp.exchange import plan as plans
from zopp.exchange.entry import Reading
from zopp.exchange.mapfile import MapFile
from zopp.exchange.plan import Rules, Target
from zopp.exchange.sources import chamber, doppler, dotenvx as dotenvx_source, files, fnox, infisical, kubernetes, sops
from zopp.keys import identity

KEY, AGE = DotenvxKey(), AgeKey()
MANIFEST = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\ndata:\n  A: eA==\nstringData: {B: z, c.d: ''}\n"
FNOX = f'[secrets]\nA = {{ value = "{AGE.seal("x")}", json_path = "a" }}\nB = {{ default = "1", line = 1 }}\n'
FNOX += '[profiles.p.secrets.C]\nprovider = "q"\nvalue = ""\n[providers.age]\ntype = "age"\nrecipients = []\n'


def of_fnox(data: bytes) -> Reading:
    return fnox.read(fnox.parse(data), "in", lambda key_file: identity.parse(AGE.secret, "test"))


SOURCES: dict[str, tuple[Callable[[bytes], Reading], bytes]] = {
    **{
        form: (lambda data, form=form: files.read(data, form, "in"), text)  # type: ignore[misc]
        for form, text in (
            ("json", b'{"A": "x", "n": {"p": [1, {"q": null}], "r": -1.5}}'),
            ("yaml", b"# c\nA: x # d\nn: &n {p: [1]}\nm: *n\n"),
            ("toml", b'A = "x"\n[n]\np = [1, {q = 2.5}]\nd = 1979-05-27\n'),
            ("csv", b'key,value,note\nA,"x ""y""",z\n'),
        )
    },
    "chamber": (lambda data: chamber.read(data, "in"), b'{"a-b": "x", "c": 1}'),
    "chamber-csv": (lambda data: chamber.read(data, "in", form="csv"), b"a,b\n"),
    "doppler": (lambda data: doppler.read(data, "in", form="yaml"), b'A: "x"\nDOPPLER_PROJECT: "p"\nHOME: "h"\n'),
    "infisical": (
        lambda data: infisical.read(data, "in"),
        b'[{"key": "A", "value": "x", "type": "shared", "_id": "1"}]',
    ),
    "infisical-dotenv": (lambda data: infisical.read(data, "in", form="dotenv"), b"A='x'\n"),
    "kubernetes": (lambda data: kubernetes.read(data, "in"), MANIFEST.encode()),
    "kubernetes-json": (
        lambda data: kubernetes.read(data, "in", form="json"),
        b'{"kind": "List", "items": [{"kind": "Secret"}]}',
    ),
    "dotenvx": (
        lambda data: dotenvx_source.read(data, "in", {"DOTENV_PRIVATE_KEY": KEY.private}),
        dotenvx(KEY, {"A": "x"}),
    ),
    "fnox": (of_fnox, FNOX.encode()),
    "fnox-export": (
        lambda data: fnox.read_export(data, "in"),
        b'{"secrets": {"A": "x"}, "metadata": {"profile": "p"}}',
    ),
    **{
        f"sops-{form}": (lambda data, form=form: sops.read(data, form, "in", lambda recipients: iter([])), text)  # type: ignore[misc]
        for form, text in (
            ("yaml", b"A: x\nsops: {mac: x, version: 3.9.0}\n"),
            ("json", b'{"A": 1, "sops": {}}'),
            ("dotenv", b"A=x\nsops_mac=x\n"),
            ("ini", b"[a]\nb = c\n[sops]\nmac = x\n"),
            ("binary", b"{}"),
        )
    },
}


def judge(read: Callable[[bytes], Reading], data: bytes) -> None:
    try:
        reading = read(data)
    except ZoppError:
        return
    placed = [MapFile().place(entry) for entry in reading.entries]
    for flat in (False, True):
        targets = {place.env: Target(name=place.env, existing={}, provenance={}, flat=flat) for place in placed}
        made = plans.plan(reading, placed, targets, Rules(partial=True))
        for line in made.lines:
            "".join(line.as_json().values()).encode()


@pytest.mark.parametrize("name", SOURCES)
def test_the_sample_is_read(name: str) -> None:
    """What the next test cuts and changes is a file of the source; of sops it is not, as it takes a key."""
    read, sample = SOURCES[name]
    if not name.startswith("sops"):
        assert read(sample).entries or read(sample).left


@pytest.mark.parametrize("name", SOURCES)
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_bytes(name: str, data: st.DataObject) -> None:
    read, sample = SOURCES[name]
    at = data.draw(st.integers(0, len(sample)))
    width = data.draw(st.integers(0, 6))
    put = data.draw(
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from([b"", b"\0", b"\xff", b"{", b"[", b'"', b": ", b"\n", b"!", b"&a ", b"*a"]),
        )
    )
    judge(read, sample[:at] + put + sample[at + width :])
    judge(read, data.draw(st.binary(max_size=40)))
