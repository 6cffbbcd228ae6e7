"""The version, a literal: reading distribution metadata costs 41-57 ms at start."""

__version__ = "0.1.0"
