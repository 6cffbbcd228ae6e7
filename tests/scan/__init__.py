"""The guard: what must not enter git, judged in real repositories (spec guard)."""
