"""Install the foreign tools beforehand, and say where."""

import sys

from tests.tools import folder

sys.stdout.write(f"{folder()}\n")
