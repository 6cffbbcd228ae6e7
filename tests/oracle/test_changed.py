"""What zopp changed in place, opened by sops."""

import json

import pytest

from zopp.sopsfile import Drop, edit, read

from .conftest import Oracle

LATER = "2031-01-02T03:04:05Z"


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
@pytest.mark.parametrize(
    ("value", "path", "left"),
    [
        ({"a": {"b": {"c": "x", "d": "y"}}, "k": "v"}, ("a", "b", "c"), {"a": {"b": {"d": "y"}}, "k": "v"}),
        ({"a": {"b": {"c": "x"}, "e": {}}, "k": "v"}, ("a", "b", "c"), {"a": {"e": {}}, "k": "v"}),
        ({"k": "v", "a": {"b": {"c": "x"}}}, ("a", "b", "c"), {"k": "v"}),
        ({"a": {"b": "x"}}, ("a", "b"), {}),
        ({"l": [{"m": {"n": "x"}}], "k": "v"}, ("l", 0, "m", "n"), {"l": [{}], "k": "v"}),
    ],
)
def test_pruned(sops: Oracle, suffix: str, value: object, path: tuple[str | int, ...], left: object) -> None:
    """A file without the mappings that a drop emptied opens, MAC included, to what is left."""
    data = sops.encrypt(json.dumps(value).encode(), suffix, sops.config())
    file = read(data, suffix[1:])
    after = edit(file, sops.data_key(file), [Drop(path, prune=True)], lastmodified=LATER)
    assert json.loads(sops.decrypt(after, suffix, "--output-type", "json") or "{}") == left
