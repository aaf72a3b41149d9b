"""Ports of a test process's own, where several of them run at once."""

import local.stack


def take_share(number: int, count: int) -> None:
    """From now on, `free_ports` draws from the share with this number of so many, counted round.

    Two processes that draw from the same ports can draw the same one: it is free for both of them
    until one listens on it.
    """
    size = len(local.stack.PORTS) // count
    number %= count
    local.stack.PORTS = local.stack.PORTS[number * size : (number + 1) * size]
