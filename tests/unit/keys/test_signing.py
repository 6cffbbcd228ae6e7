"""Signing keys in OpenSSH's format, ssh-agent, SSHSIG: both ways with the real ssh-keygen (A8)."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import keygen
from hypothesis import HealthCheck, given, settings, strategies as st

from zopp import _fast
from zopp.errors import FormatError, IntegrityError, Unknown, ZoppError
from zopp.keys import curve, signing, sshsig, wire

CANARY = "kanarienvogel7"
KEY = signing.from_seed(bytes(range(32)))  # a test key
NAMESPACE = "zopp-secrets-v1"


class TestOpenssh:
    def test_a_key_of_ssh_keygen_is_read(self, ssh_key: Path) -> None:
        key = signing.load_openssh(ssh_key.read_bytes())
        assert signing.public_line(key.public, "test key") == ssh_key.with_suffix(".pub").read_text().strip()
        assert _fast.ed25519_verify(key.public, key.sign(b"m"), b"m")

    def test_ssh_keygen_reads_what_is_written(self, tmp_path: Path) -> None:
        for comment in ("", "a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "zopp laptop"):
            path = tmp_path / f"key{len(comment)}"
            path.touch(0o600)
            path.write_bytes(signing.dump_openssh(KEY, comment))
            assert keygen("-y", "-f", path).decode().strip() == signing.public_line(KEY.public, comment)
            assert signing.load_openssh(path.read_bytes()).public == KEY.public

    def test_protected_keys_both_ways(self, locked_key: Path, tmp_path: Path) -> None:
        key = signing.load_openssh(locked_key.read_bytes(), lambda: "pass phrase")
        assert signing.public_line(key.public) in locked_key.with_suffix(".pub").read_text()
        path = tmp_path / "key"
        path.touch(0o600)
        path.write_bytes(signing.dump_openssh(key, "c", "other words"))
        assert keygen("-y", "-P", "other words", "-f", path).decode().startswith(signing.public_line(key.public))
        assert signing.load_openssh(path.read_bytes(), lambda: "other words").public == key.public

    def test_a_protected_key_without_its_passphrase_is_unknown(self, locked_key: Path) -> None:
        for ask in (None, lambda: CANARY, lambda: ""):
            with pytest.raises(Unknown) as caught:
                signing.load_openssh(locked_key.read_bytes(), ask)
            assert caught.value.code in ("locked", "bcrypt")
            assert CANARY not in str(caught.value)

    def test_other_key_types_are_named(self, rsa_key: Path) -> None:
        with pytest.raises(FormatError, match="ssh-ed25519"):
            signing.load_openssh(rsa_key.read_bytes())

    def test_empty_passphrases_and_odd_comments_are_refused(self) -> None:
        with pytest.raises(FormatError):
            signing.dump_openssh(KEY, "", "")
        with pytest.raises(FormatError):
            signing.dump_openssh(KEY, "a\nb")

    def parts(self, **changed: bytes) -> bytes:
        blob = changed.get("blob", wire.public_blob(KEY.public))
        inner = changed.get("check", b"abcdabcd") + changed.get("inner_blob", wire.public_blob(KEY.public))
        inner += wire.string(changed.get("both", bytes(range(32)) + KEY.public)) + wire.string(b"c")
        inner += changed.get("padding", bytes(range(1, 1 + -len(inner) % 8)))
        data = changed.get("magic", b"openssh-key-v1\0") + wire.string(changed.get("cipher", b"none"))
        data += wire.string(changed.get("kdf", b"none")) + wire.string(changed.get("options", b""))
        data += changed.get("count", struct.pack(">I", 1)) + wire.string(blob) + wire.string(inner)
        data += changed.get("after", b"")
        return wire.pem_encode(data, "OPENSSH PRIVATE KEY", 70).encode()

    def test_the_parts_make_a_key(self) -> None:
        assert signing.load_openssh(self.parts()).public == KEY.public
        assert signing.load_openssh(self.parts().replace(b"\n", b"\r\n")).public == KEY.public

    @pytest.mark.parametrize(
        "changed",
        [
            {"magic": b"openssh-key-v2\0"},
            {"kdf": b"bcrypt"},
            {"options": b"x"},
            {"count": struct.pack(">I", 0)},
            {"count": struct.pack(">I", 2)},
            {"check": b"abcdabce"},
            {"blob": wire.public_blob(bytes(32))},
            {"blob": wire.string(b"ssh-rsa")},
            {"inner_blob": wire.public_blob(bytes(32))},
            {"both": bytes(range(1, 33)) + KEY.public},
            {"both": bytes(range(32)) + bytes(32)},
            {"both": bytes(range(32))},
            {"padding": b""},
            {"padding": b"\1\2\3\4\5\6\7\7"},
            {"padding": bytes(range(1, 17))},
            {"after": b"x"},
            {"cipher": b"rot13"},
        ],
    )
    def test_other_spellings_and_false_halves_are_refused(self, changed: dict[str, bytes]) -> None:
        with pytest.raises(ZoppError):
            signing.load_openssh(self.parts(**changed), lambda: "x")

    @given(st.integers(0, 400), st.integers(0, 255), st.booleans())
    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_changed_and_cut_files_give_this_key_or_a_zopp_error(self, at: int, byte: int, cut: bool) -> None:
        data = bytearray(self.parts())
        at %= len(data)
        data[at] = byte
        try:
            key = signing.load_openssh(bytes(data[:at] if cut else data), lambda: "x")
        except ZoppError:
            return
        # what is left of freedom: the comment and the pair of check bytes
        assert key.public == KEY.public

    @given(st.binary(max_size=200))
    @settings(deadline=None)
    def test_any_bytes_give_a_zopp_error(self, data: bytes) -> None:
        for candidate in (data, wire.pem_encode(b"openssh-key-v1\0" + data, "OPENSSH PRIVATE KEY", 70).encode()):
            with pytest.raises(ZoppError):
                signing.load_openssh(candidate, lambda: "x")


class TestPublic:
    @pytest.mark.parametrize("y", [*curve.SMALL_ORDER_Y, *[curve.P + y for y in range(19)], 2])
    @pytest.mark.parametrize("sign", [0, 1 << 255])
    def test_a8_unsound_points_are_refused(self, y: int, sign: int) -> None:
        with pytest.raises(FormatError):
            signing.check_public((y | sign).to_bytes(32, "little"))

    def test_the_list_of_small_orders_is_complete(self) -> None:
        """Every point of order 1, 2, 4, 8: eight times it is the neutral element."""
        p, d = curve.P, -121665 * pow(121666, -1, curve.P) % curve.P

        def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
            t = d * a[0] * b[0] * a[1] * b[1]
            return (
                (a[0] * b[1] + b[0] * a[1]) * pow(1 + t, -1, p) % p,
                (a[1] * b[1] + a[0] * b[0]) * pow(1 - t, -1, p) % p,
            )

        def points(y: int) -> list[tuple[int, int]]:
            xx = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
            x = pow(xx, (p + 3) // 8, p)
            if x * x % p != xx:
                x = x * pow(2, (p - 1) // 4, p) % p
            assert x * x % p == xx
            return [(x, y), (-x % p, y)]

        found = {point for y in curve.SMALL_ORDER_Y for point in points(y)}
        assert len(found) == 8
        for point in found:
            double = add(point, point)
            assert add(add(double, double), add(double, double)) == (0, 1)

    @given(st.binary(min_size=32, max_size=32))
    def test_every_made_key_is_sound(self, seed: bytes) -> None:
        signing.check_public(signing.from_seed(seed).public)

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_length(self, size: int) -> None:
        with pytest.raises(FormatError):
            signing.check_public(b"\x09" * size)

    def test_lines_round_trip(self) -> None:
        line = signing.public_line(KEY.public, "a comment")
        assert signing.parse_public_line(line) == signing.parse_public_line(line + "\n") == KEY.public
        for bad in ("", line[1:], line.replace("ssh-ed25519 ", "ssh-ed25519  "), line + "\n\n", line + "\tx"):
            with pytest.raises(FormatError):
                signing.parse_public_line(bad)

    def test_keys_hide_themselves(self) -> None:
        import copy
        import pickle

        assert KEY._seed is not None
        assert KEY._seed.hex() not in f"{KEY!r}{KEY}"
        for copier in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                copier(KEY)


class TestAgent:
    def test_an_agent_signs(self, agent: str, ssh_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        public = signing.load_openssh(ssh_key.read_bytes()).public
        key = signing.from_agent(public, agent)
        assert key.sign(b"message") == signing.load_openssh(ssh_key.read_bytes()).sign(b"message")
        with pytest.raises(FormatError, match="agent"):
            signing.dump_openssh(key)
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        assert signing.from_agent(public).public == public

    def test_a_key_that_it_does_not_hold_is_unknown(self, agent: str) -> None:
        with pytest.raises(Unknown, match="does not hold"):
            signing.from_agent(KEY.public, agent)

    @pytest.mark.parametrize("path", ["", "nowhere/at/all", "x" * 300, "a\0b"])
    def test_no_agent_is_unknown(self, path: str) -> None:
        with pytest.raises(Unknown):
            signing.from_agent(KEY.public, path)

    @pytest.fixture
    def liar(self) -> Iterator[tuple[str, list[bytes]]]:
        """A socket that gives the given answers, one a connection."""
        answers: list[bytes] = []
        folder = tempfile.mkdtemp(prefix="zl")
        path = os.path.join(folder, "s")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(4)

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.recv(4096)
                    link.sendall(answers.pop(0) if answers else b"")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path, answers
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        os.unlink(path)
        os.rmdir(folder)

    LISTED = wire.string(b"\x0c" + struct.pack(">I", 1) + wire.string(wire.public_blob(KEY.public)) + wire.string(b""))

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"\0",
            b"\0\0\0\0",
            b"\xff\xff\xff\xff",
            wire.string(b"\x05"),
            wire.string(b"\x0c"),
            wire.string(b"\x0c" + struct.pack(">I", 2**31)),
            wire.string(b"\x0c" + struct.pack(">I", 1) + struct.pack(">I", 2**31)),
            wire.string(b"\x0c" + struct.pack(">I", 0) + b"x"),
            LISTED[:-1],
        ],
    )
    def test_a_lying_agent_is_a_zopp_error(self, liar: tuple[str, list[bytes]], answer: bytes) -> None:
        path, answers = liar
        answers.append(answer)
        with pytest.raises(ZoppError):
            signing.from_agent(KEY.public, path)

    def test_a_false_signature_is_not_returned(self, liar: tuple[str, list[bytes]]) -> None:
        path, answers = liar
        answers += [
            self.LISTED,
            wire.string(b"\x0e" + wire.string(wire.string(b"ssh-ed25519") + wire.string(KEY.sign(b"other")))),
        ]
        key = signing.from_agent(KEY.public, path)
        with pytest.raises(FormatError, match="verify"):
            key.sign(b"message")


class TestSshsig:
    def sign(self, key: signing.SigningKey, message: bytes, namespace: str = NAMESPACE) -> str:
        return sshsig.armor(key.public, namespace, key.sign(sshsig.preimage(namespace, message)))

    @pytest.mark.parametrize("namespace", [NAMESPACE, "zopp-policy-v1", "n", "git"])
    @pytest.mark.parametrize("message", [b"", b"message\n", bytes(range(256)) * 20])
    def test_equal_to_ssh_keygens_byte_for_byte(self, ssh_key: Path, namespace: str, message: bytes) -> None:
        key = signing.load_openssh(ssh_key.read_bytes())
        theirs = keygen("-q", "-Y", "sign", "-f", ssh_key, "-n", namespace, data=message).decode()
        assert self.sign(key, message, namespace) == theirs
        sshsig.verify(theirs, key.public, namespace, message)

    def test_ssh_keygen_verifies_ours(self, tmp_path: Path) -> None:
        (tmp_path / "allowed").write_text(f"a@example.com {signing.public_line(KEY.public)}\n")
        (tmp_path / "sig").write_text(self.sign(KEY, b"message"))
        words = ["-Y", "verify", "-f", tmp_path / "allowed", "-I", "a@example.com", "-n", NAMESPACE]
        assert b"Good" in keygen(*words, "-s", tmp_path / "sig", data=b"message")

    def test_what_does_not_hold_is_an_integrity_error(self) -> None:
        armored = self.sign(KEY, b"message")
        other = signing.generate()
        for public, namespace, message in [
            (KEY.public, NAMESPACE, b"massage"),
            (KEY.public, "git", b"message"),
            (other.public, NAMESPACE, b"message"),
        ]:
            with pytest.raises(IntegrityError):
                sshsig.verify(armored, public, namespace, message)
        forged = sshsig.armor(other.public, NAMESPACE, KEY.sign(sshsig.preimage(NAMESPACE, b"message")))
        with pytest.raises(IntegrityError):
            sshsig.verify(forged, other.public, NAMESPACE, b"message")

    def test_what_was_signed_for_another_purpose_is_said(self) -> None:
        with pytest.raises(IntegrityError) as caught:
            sshsig.verify(self.sign(KEY, b"m", "git"), KEY.public, NAMESPACE, b"m")
        assert (caught.value.code, caught.value.data) == ("signature_namespace", {"namespace": "git"})

    @pytest.mark.parametrize("y", curve.SMALL_ORDER_Y)
    def test_a8_a_small_order_key_never_verifies(self, y: int) -> None:
        """R = the neutral element and S = 0 verify under the neutral key for every message, where nobody looks."""
        public = y.to_bytes(32, "little")
        armored = sshsig.armor(public, NAMESPACE, (1).to_bytes(32, "little") + bytes(32))
        for message in (b"", b"1", b"2", b"3"):
            with pytest.raises(IntegrityError):
                sshsig.verify(armored, public, NAMESPACE, message)

    def test_other_spellings_are_refused(self, ssh_key: Path) -> None:
        armored = self.sign(KEY, b"message")
        lines = armored.split("\n")
        body = "".join(lines[1:-2])
        others = [
            armored + "\n",
            "\n" + armored,
            armored.replace("\n", "\r\n"),
            armored.replace("\n", " \n", 1),
            "\n".join([lines[0], body, lines[-2], ""]),
            "\n".join([lines[0], *[body[i : i + 64] for i in range(0, len(body), 64)], lines[-2], ""]),
            armored.replace("\n-----END", "\n\n-----END"),
            armored.replace("SSH SIGNATURE", "SSH  SIGNATURE"),
            armored[:-40],
            keygen("-q", "-Y", "sign", "-f", ssh_key, "-n", "n", "-O", "hashalg=sha256", data=b"m").decode(),
            "",
            "x" * 5000,
        ]
        sshsig.parse(armored.removesuffix("\n"))
        for text in others:
            with pytest.raises(FormatError):
                sshsig.parse(text)

    def test_keys_of_other_types_are_refused(self, rsa_key: Path) -> None:
        with pytest.raises(FormatError):
            sshsig.parse(keygen("-q", "-Y", "sign", "-f", rsa_key, "-n", "n", data=b"m").decode())

    @pytest.mark.parametrize("namespace", ["", "é", "a\nb", "a\0"])
    def test_namespaces_are_printable_ascii(self, namespace: str) -> None:
        with pytest.raises(FormatError):
            sshsig.preimage(namespace, b"")

    @given(st.integers(0, 400), st.integers(0, 255), st.booleans())
    @settings(max_examples=400, deadline=None)
    def test_every_change_is_refused(self, at: int, byte: int, cut: bool) -> None:
        armored = self.sign(KEY, b"message")
        at %= len(armored)
        changed = armored[:at] if cut else armored[:at] + chr(byte) + armored[at + 1 :]
        if changed.removesuffix("\n") != armored.removesuffix("\n"):
            with pytest.raises(ZoppError):
                sshsig.verify(changed, KEY.public, NAMESPACE, b"message")

    @given(st.binary(max_size=300))
    def test_any_bytes_give_a_zopp_error(self, data: bytes) -> None:
        for text in (data.decode("latin-1"), wire.pem_encode(b"SSHSIG\0\0\0\1" + data, "SSH SIGNATURE", 70)):
            with pytest.raises(ZoppError):
                sshsig.parse(text)
