"""What a long piece of work is doing, on standard error: a bar on a terminal, else a line for each step."""

from __future__ import annotations

import os
import sys

BAR = 20
"""Columns of the bar."""


class Progress:
    """To be called with a text and the share that is done, 0 to 1; below 0 for a remark.

    A context manager: what is printed after its end stands on a line of its own.
    """

    def __init__(self) -> None:
        self.text = ""
        self.percent = -1
        self.terminal = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def __call__(self, text: str, share: float) -> None:
        percent = int(share * 100)
        if text != self.text:
            self.finish()
        elif percent == self.percent:
            return
        if not self.terminal or share < 0:
            if text != self.text:
                sys.stderr.write(f"{text}\n")
        else:
            done = round(share * BAR)
            bar = f"  [{'#' * done}{'.' * (BAR - done)}] {percent:3}%"
            room = max(self.columns() - len(bar) - 1, 1)
            sys.stderr.write(f"\r{text[:room]}{bar}\x1b[K")
        sys.stderr.flush()
        self.text = text
        self.percent = percent

    def finish(self) -> None:
        """End the line of a bar."""
        if self.terminal and self.text and self.percent >= 0:
            sys.stderr.write("\n")
            sys.stderr.flush()
        self.text = ""
        self.percent = -1

    @staticmethod
    def columns() -> int:
        """How wide the terminal is; 80 where it does not say."""
        try:
            return os.get_terminal_size(2).columns or 80
        except OSError:
            return 80
