"""The guard: what must not enter git, and how it is found (spec guard). Lean until a rule or a parser is needed.

`staged`, `receive` and `sweep` say what is judged, `engine` judges it, `report` says what was found. Nothing here opens
a network connection, decrypts or signs. It proves form, not authenticity: that is `zopp verify`.
"""
