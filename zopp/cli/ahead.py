"""git at work on an environment's history while Python still loads what will be done with it: both take about as long,
on a machine with two cores. Only what starts git is imported here.
"""

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass

from zopp._fast import json_parse
from zopp.errors import ZoppError
from zopp.repo import files, git, layout, settings


@dataclass(slots=True)
class Started:
    """A running `git log` of `paths` in the repository at `root`."""

    root: str
    paths: list[str]
    log: git.Log

    def stop(self) -> None:
        """End it, if nobody has read it."""
        self.log.stop()


def start(env: Mapping[str, str], cwd: str, args: argparse.Namespace) -> Started | None:
    """What zopp.toml suggests for -e and -p, before the policy is opened. What they turn out to mean decides whether it
    is used; any doubt, and nothing is started."""
    try:
        checkout = layout.find_checkout(cwd)
        folder = layout.find_project(checkout, cwd)
        if folder is None:
            return None
        place = f"{folder}/{layout.SETTINGS}" if folder else layout.SETTINGS
        found = settings.parse(files.read(checkout.root, place), place=place, folder=folder)
        project = args.project or env.get("ZOPP_PROJECT") or found.project
        name = args.env or env.get("ZOPP_ENV") or found.default_env
        if not name:
            return None
        scope = f"{project}/{name}"
        if not os.path.exists(os.path.join(checkout.root, layout.manifest_path(scope))):
            return None
        paths = layout.history_paths(scope, listed(checkout.root, scope, tuple(found.files.get(name, ()))))
        return Started(checkout.root, paths, git.Log(checkout.root, "HEAD", paths))
    except (ZoppError, OSError, ValueError):
        return None


def listed(root: str, scope: str, configured: tuple[str, ...]) -> set[str]:
    """The environment's files as its manifest in the work tree and zopp.toml name them: only places to look."""
    found = set(configured)
    try:
        data = files.read_if_there(root, layout.manifest_path(scope))
        if data is not None:
            found.update(path for path in json_parse(data.decode("utf-8"))["files"] if path.isprintable())
    except (ZoppError, ValueError, TypeError, KeyError, AttributeError):
        pass  # `verify` speaks of it
    return found
