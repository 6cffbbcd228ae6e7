"""Text from git's history on a terminal: names are whatever somebody committed. Lean."""


def printable(text: str) -> str:
    """`text` with control characters, line ends, direction marks and half surrogates as escapes; spaces stay."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else _escape(char) for char in text])


def _escape(char: str) -> str:
    code = ord(char)
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
