"""age identities: the form of a key file (sops-compat §13.6), passphrases, and nothing shown."""

from __future__ import annotations

import copy
import pickle
import traceback
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, Unknown, ZoppError
from zopp.keys import agefile, bech32, identity, recovery, signing

# Test keys, the same in every run so that tests keep their names.
SECRET, SECRET2 = (bech32.encode("age-secret-key-", bytes([n] * 32)).upper() for n in (1, 2))
RECIPIENT, RECIPIENT2 = (identity.from_secret(secret, "test").recipient for secret in (SECRET, SECRET2))
PROTECTED = identity.protect(f"# a test key\n{SECRET}\n", "pass phrase")


def recipients(text: str | bytes) -> list[str]:
    return [found.recipient for found in identity.parse(text, "source")]


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}\n{SECRET2}\n",
        f"# created: now\n# public key: {RECIPIENT}\n{SECRET}\n\n\n#{SECRET}\n{SECRET2}",
        f"{SECRET}\r\n\r\n# c\r\n{SECRET2}\r\n",
        f"{SECRET}\nAGE-PLUGIN-YUBIKEY-1QQQQQQ\n{SECRET2}\n",
    ],
)
def test_key_files(text: str) -> None:
    assert recipients(text) == recipients(text.encode()) == [RECIPIENT, RECIPIENT2]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f" {SECRET}\n", "source:1"),
        (f"{SECRET} \n", "source:1"),
        (f"{SECRET}\n\t{SECRET2}\n", "source:2"),
        (f" # comment\n{SECRET}\n", "source:1"),
        (f"{SECRET}{SECRET2}", "source:1"),
        (f"{SECRET} {SECRET2}", "source:1"),
        (SECRET.lower(), "source:1"),
        (SECRET[:-1], "source:1"),
        (SECRET[:30] + ("Q" if SECRET[30] != "Q" else "P") + SECRET[31:], "source:1"),
        (SECRET + "\r", "source:1"),
        (SECRET + "\r\r\n", "source:1"),
        ("\ufeff" + SECRET, "source:1"),
        (RECIPIENT, "source:1"),
        ("", "source"),
        ("# nothing\n", "source"),
        ("AGE-PLUGIN-YUBIKEY-1QQQQQQ\n", "source"),
        ("\ud800", "source:1"),
    ],
)
def test_other_texts_are_refused_with_their_line_and_not_quoted(text: str, place: str) -> None:
    if text == SECRET + "\r":  # a final CR is a line end
        assert recipients(text) == [RECIPIENT]
        return
    with pytest.raises(FormatError) as caught:
        identity.parse(text, "source")
    assert caught.value.place == place
    assert SECRET[20:40] not in "".join(traceback.format_exception(caught.value))


def test_nothing_shows_a_key() -> None:
    (own,) = identity.parse(SECRET, "source")
    assert SECRET not in f"{own}{own!r}{[own]}"
    for copier in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            copier(own)


class TestPassphrase:
    def test_a_protected_file_is_opened(self) -> None:
        for data in (PROTECTED, PROTECTED.replace(b"\n", b"\r\n"), agefile.dearmor(PROTECTED.decode())):
            assert identity.parse(data, "s", lambda: "pass phrase")[0].recipient == RECIPIENT

    def test_age_opens_it(self) -> None:
        assert SECRET.encode() in pyrage.passphrase.decrypt(PROTECTED, "pass phrase")

    @pytest.mark.parametrize("ask", [None, lambda: "kanarienvogel7", lambda: ""])
    def test_without_the_passphrase_it_is_locked(self, ask) -> None:
        with pytest.raises(Unknown) as caught:
            identity.parse(PROTECTED, "s", ask)
        assert caught.value.code == "locked"
        assert "kanarienvogel7" not in "".join(traceback.format_exception(caught.value))

    def test_a_file_encrypted_to_keys_never_asks(self) -> None:
        def ask() -> str:
            raise AssertionError

        with pytest.raises(FormatError):
            identity.parse(agefile.wrap(RECIPIENT, SECRET.encode()), "s", ask)

    def test_a_file_encrypted_twice_and_one_of_no_key_are_refused(self) -> None:
        for inner in (PROTECTED.decode(), "hello", ""):
            with pytest.raises(FormatError):
                identity.parse(identity.protect(inner, "x"), "s", lambda: "x")

    def test_an_interrupt_at_the_prompt_passes(self) -> None:
        def ask() -> str:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            identity.parse(PROTECTED, "s", ask)

    def test_an_enormous_work_factor_is_refused_at_once(self) -> None:
        data = agefile.dearmor(PROTECTED.decode())
        head, _, rest = data.partition(b"\n-> scrypt ")
        line, _, rest = rest.partition(b"\n")
        salt = line.split()[0]
        with pytest.raises(Unknown):
            identity.parse(head + b"\n-> scrypt " + salt + b" 40\n" + rest, "s", lambda: "pass phrase")

    def test_empty_passphrases_are_refused(self) -> None:
        with pytest.raises(FormatError):
            identity.protect(SECRET, "")


class TestSsh:
    def test_an_openssh_key_is_an_identity(self, ssh_key: Path) -> None:
        (own,) = identity.parse(ssh_key.read_bytes(), "s")
        assert own.recipient == " ".join(ssh_key.with_suffix(".pub").read_text().split()[:2])
        assert agefile.unwrap(agefile.wrap(own.recipient, b"k"), [own]) == b"k"

    def test_a_protected_one_asks(self, locked_key: Path) -> None:
        with pytest.raises(Unknown) as caught:
            identity.parse(locked_key.read_bytes(), "s")
        assert (caught.value.code, caught.value.place) == ("locked", "s")
        (own,) = identity.parse(locked_key.read_bytes(), "s", lambda: "pass phrase")
        assert agefile.unwrap(agefile.wrap(own.recipient, b"k"), [own]) == b"k"

    def test_only_where_ssh_keys_are_expected(self, ssh_key: Path) -> None:
        with pytest.raises(FormatError):
            identity.parse(ssh_key.read_bytes(), "s", ssh=False)

    def test_rsa_opens_old_files_only(self, rsa_key: Path, ssh_key: Path) -> None:
        own = identity.from_rsa(rsa_key.read_bytes(), "s")
        line = rsa_key.with_suffix(".pub").read_text()
        data = pyrage.encrypt(b"k", [pyrage.ssh.Recipient.from_str(line)], armored=True).decode()
        assert agefile.unwrap(data, [own]) == b"k"
        with pytest.raises(FormatError):
            agefile.check(data, line)
        with pytest.raises(FormatError):
            identity.from_rsa(b"junk", "s")


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"-----BEGIN AGE ENCRYPTED FILE-----\n", agefile.MAGIC, b"AGE-SECRET-KEY-1"]),
)
@settings(deadline=None)
def test_any_bytes_give_a_zopp_error_that_does_not_quote_them(data: bytes, before: bytes) -> None:
    whole = before + data + b"x"
    with pytest.raises(ZoppError) as caught:
        identity.parse(whole, "s", lambda: "p")
    assert len(str(caught.value)) < 100


class TestRecovery:
    SIGNER = signing.from_seed(bytes(range(32)))

    def test_round_trip(self) -> None:
        data = recovery.seal(SECRET, self.SIGNER, "recovery", "words")
        secret, signer = recovery.open_sealed(data, lambda: "words")
        assert secret == SECRET
        assert signer is not None
        assert signer.public == self.SIGNER.public
        assert recovery.open_sealed(recovery.seal(SECRET, None, "r", "words"), lambda: "words") == (SECRET, None)

    def test_it_is_a_key_file_for_others(self) -> None:
        data = recovery.seal(SECRET, self.SIGNER, "recovery", "words")
        assert identity.parse(data, "s", lambda: "words")[0].recipient == RECIPIENT

    def test_wrong_words_and_other_files_are_refused(self) -> None:
        with pytest.raises(Unknown):
            recovery.open_sealed(recovery.seal(SECRET, None, "r", "words"), lambda: "other")
        two = identity.protect(f"{SECRET}\n{SECRET2}\n", "words")
        cut = identity.protect(f"{SECRET}\n# -----BEGIN OPENSSH PRIVATE KEY-----\n# AAAA\n", "words")
        for data in (b"", SECRET.encode(), two, cut, identity.protect("x", "words")):
            with pytest.raises(FormatError) as caught:
                recovery.open_sealed(data, lambda: "words")
            assert SECRET not in str(caught.value)
