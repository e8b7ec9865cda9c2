"""``python -m tracebee``."""

from tracebee.cli.main import run

run()
