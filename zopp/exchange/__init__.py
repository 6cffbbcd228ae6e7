"""Secrets from other places and back out: .env files in, .env, shell, JSON, YAML, docker and sops out.

Pure: text in, values or findings out. No module here runs, expands from the environment, or writes a file.
"""
