"""How long to wait before trying again."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The longest first wait and the longest wait of all, in seconds."""

    first: float = 0.5
    longest: float = 30.0

    def wait(self, failures: int, chance: Callable[[], float] = random.random) -> float:
        """The wait before the next attempt after so many failures in a row, in seconds.

        It doubles, and half of it is chance, so that clients that were cut together do not come
        back together.
        """
        most = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return most * (0.5 + chance() / 2)
