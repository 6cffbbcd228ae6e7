"""Text that somebody else wrote, on a terminal: file names, keys, branches, environments. Lean."""


def printable(text: str) -> str:
    """`text` on one line, without control characters, line ends and marks of text direction: those as escapes.

    Spaces stay. A byte that is not UTF-8 (a surrogate of `surrogateescape`) is `\\xNN`. Where anything is escaped,
    backslashes are doubled, so that nobody can spell an escape that was not there.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() and char != "\\" else _escape(char) for char in text])


_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
