"""`age-plugin-zopp`: the bridge by which stock sops and age open brokered files (brokered-grants.md §13.1).

C2SP age-plugin.md, state machine identity-v1 on standard input and output. age hands every stanza to every plugin
identity; those of X25519 that are not for the user's own keys are sent to the server under the identity's environment.
What no key of it opens is answered with nothing, so that age goes on; a denial or a failure is an `error`, whose text
the user sees. Nothing is kept but the log's checkpoint. Encryption needs no plugin: group 2 has plain recipients.

Not checked here: the manifest and the key commitments, which stock sops does not know (`zopp verify` does).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from zopp.client import pinned
from zopp.client.pinned import Asker, Pinned
from zopp.errors import FormatError, ZoppError
from zopp.keys import wire
from zopp.keys.filekey import check_stanza
from zopp.protocol.release import MAX_ITEMS

_COLUMNS = 64
_MAX_LINE = 65536
_MAX_STANZAS = 10_000


@dataclass(frozen=True, slots=True)
class Stanza:
    """`-> kind arguments…` and its body."""

    kind: str
    arguments: tuple[str, ...]
    body: bytes = field(default=b"", repr=False)


def read_stanza(stream: BinaryIO) -> Stanza:
    """The next stanza. FormatError for anything else, also at the end of the stream."""
    line = stream.readline(_MAX_LINE)
    if not line.startswith(b"-> ") or not line.endswith(b"\n") or not line.isascii():
        raise FormatError("not a stanza of the age plugin protocol", code="plugin")
    words = line[3:-1].decode("ascii").split(" ")
    if "" in words or not line[:-1].decode("ascii").isprintable():
        raise FormatError("not a stanza of the age plugin protocol", code="plugin")
    text = b""
    while True:
        part = stream.readline(_COLUMNS + 2)
        if not part.endswith(b"\n") or len(part) > _COLUMNS + 1 or len(text) > _MAX_LINE:
            raise FormatError("not a stanza of the age plugin protocol", code="plugin")
        text += part[:-1]
        if len(part) <= _COLUMNS:
            break
    body = wire.base64_decode(text.decode("ascii", "replace"), padded=False)
    if body is None:
        raise FormatError("not a stanza of the age plugin protocol", code="plugin")
    return Stanza(words[0], tuple(words[1:]), body)


def write_stanza(stream: BinaryIO, stanza: Stanza) -> None:
    """Write it, and send it off."""
    text = wire.base64_encode(stanza.body).rstrip("=")
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    if not lines or len(lines[-1]) == _COLUMNS:
        lines.append("")
    stream.write((" ".join(["->", stanza.kind, *stanza.arguments]) + "\n" + "\n".join(lines) + "\n").encode("ascii"))
    stream.flush()


class Session:
    """One run of identity-v1. `env` is where keys and state are looked for."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, env: Mapping[str, str]) -> None:
        self._source = source
        self._sink = sink
        self._asker = Asker(env, self._secret)
        self._identities: list[str] = []
        self._files: dict[int, list[tuple[bytes, bytes]]] = {}

    def run(self) -> None:
        """Both phases. FormatError where the other side does not speak the protocol."""
        self._listen()
        for file, stanzas in self._files.items():
            self._answer(file, stanzas)
        write_stanza(self._sink, Stanza("done", ()))

    def _listen(self) -> None:
        for _ in range(_MAX_STANZAS):
            stanza = read_stanza(self._source)
            match stanza.kind, stanza.arguments:
                case "done", _:
                    return
                case "add-identity", (text,):
                    self._identities.append(text)
                case "recipient-stanza", (index, kind, *arguments) if index.isdigit() and len(index) < 10:
                    found = self._files.setdefault(int(index), [])
                    if kind == "X25519" and len(arguments) == 1:
                        share = wire.base64_decode(arguments[0], padded=False) or b""
                        try:
                            check_stanza(share, stanza.body)
                        except FormatError:
                            continue  # nobody's: age itself refuses it
                        if (share, stanza.body) not in found:
                            found.append((share, stanza.body))
                case _:
                    continue  # grease, and what later versions add
        raise FormatError("the age client never ends its list", code="plugin")

    def _answer(self, file: int, stanzas: Sequence[tuple[bytes, bytes]]) -> None:
        foreign = [each for each in stanzas if not self._asker.ours(*each)][:MAX_ITEMS]
        if not foreign:
            return
        for number, text in enumerate(self._identities):
            try:
                known: Pinned = pinned.parse(text)
                keys = self._asker.file_keys(known, foreign)
            except ZoppError as exc:
                self._say(Stanza("error", ("identity", str(number)), _sentence(exc)))
                continue
            key = next((key for key in keys if key is not None), None)
            if key is not None:
                self._say(Stanza("file-key", (str(file),), key))
                return

    def _say(self, stanza: Stanza) -> Stanza:
        write_stanza(self._sink, stanza)
        return read_stanza(self._source)

    def _secret(self, source: str) -> str:
        """Ask the user for a passphrase through age."""
        answer = self._say(Stanza("request-secret", (), f"passphrase of {source}".encode()))
        if answer.kind != "ok":
            raise FormatError("no passphrase was given", code="plugin")
        return answer.body.decode("utf-8", "replace")


def _sentence(exc: ZoppError) -> bytes:
    text = f"zopp: {exc}" + (f"; {exc.hint}" if exc.hint else "")
    return text.encode()


def main(argv: Sequence[str] | None = None) -> int:
    """The console script. age runs it; people get a line that says so."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments != ["--age-plugin=identity-v1"]:
        sys.stderr.write(
            "age-plugin-zopp: run by age and sops for brokered files; "
            "put the lines of `zopp env plugin-identity` into your age key file\n"
        )
        return 2
    try:
        Session(sys.stdin.buffer, sys.stdout.buffer, os.environ).run()
    except (ZoppError, BrokenPipeError) as exc:
        sys.stderr.write(f"age-plugin-zopp: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
