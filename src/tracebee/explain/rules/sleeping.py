"""Sleepable programs: calls that may sleep, and the programs and maps that allow it."""

from __future__ import annotations

import re

SECTION_SLEEPABLE = re.compile(r"[^/]*\.s(?:/|$)")
