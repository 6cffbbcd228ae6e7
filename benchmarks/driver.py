"""What a cold process does with one file: decrypt it, encrypt a plain one, or set one key; for benchmarks only.

Uses the library as the command line does: the recipient's own entry is unwrapped, every tag and the MAC are checked,
and the output is written whole. There is no manifest here, because the peer has none; `get` and `set` in the table
are measured with everything.
"""

import os
import sys


def main(action: str, source: str, target: str, identity_file: str) -> None:
    """`action` is decrypt, encrypt or set; `target` is where the output goes."""
    import gc

    from zopp import sopsfile
    from zopp.keys import agefile, identity

    gc.set_threshold(100_000)  # as zopp.cli.main
    with open(identity_file, "rb") as file:
        me = identity.parse(file.read(), "key")[0]
    with open(source, "rb") as file:
        data = file.read()
    fmt = sopsfile.format_of(source)
    if action == "encrypt":
        key = os.urandom(32)
        entry = sopsfile.Entry(me.recipient, agefile.wrap(me.recipient, key))
        tree = sopsfile.load_plain(data, fmt)
        out = sopsfile.encrypt(tree, fmt, key, ((entry,),), lastmodified="2026-11-24T00:00:00Z")
    else:
        read = sopsfile.read(data, fmt)
        key = agefile.unwrap(read.metadata.groups[0][0].enc, [me])
        if action == "set":
            change = sopsfile.Put(("KEY5",), os.urandom(6).hex())
            out = sopsfile.edit(read, key, [change], lastmodified="2026-11-24T00:00:01Z")
        else:
            out = sopsfile.dump_plain(read.decrypt(key), fmt)
    with open(target, "wb") as file:
        file.write(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
