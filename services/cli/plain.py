"""Markdown's escapes, taken out where text is shown and not rendered.

Comes in: Markdown, whole or in pieces. Goes out: the same without the backslashes that escape punctuation; code keeps
them, for there they are meant. Does not know: where it is shown.
"""

from __future__ import annotations

import string


def plain(text: str) -> str:
    growing = Plain()
    return growing.feed(text) + growing.end()


class Plain:
    """A text that grows."""

    def __init__(self) -> None:
        self._escaping = False
        self._ticks = 0
        """Of the run of backticks that is being read."""
        self._open = 0
        """Of the run that opened the code that we are in."""

    def feed(self, piece: str) -> str:
        shown: list[str] = []
        for each in piece:
            if self._escaping:
                self._escaping = False
                shown.append(each if each in string.punctuation else f"\\{each}")
            elif each == "`":
                self._ticks += 1
                shown.append(each)
            else:
                self._run_ends()
                if each == "\\" and not self._open:
                    self._escaping = True
                else:
                    shown.append(each)
        return "".join(shown)

    def end(self) -> str:
        """A backslash that came last."""
        last, self._escaping = "\\" * self._escaping, False
        return last

    def _run_ends(self) -> None:
        if self._ticks:
            self._open = 0 if self._ticks == self._open else self._open or self._ticks
            self._ticks = 0
