"""Becomes another user, and then a program: `as_user.py <user id> <group id> <path> …`.

It is a program itself because of how Python starts one: where it shall change the user on the way,
it forks, and gRPC's handlers of that crash the child while other threads of the parent make calls.
"""

import os
import sys


def main() -> None:
    """Gives up what the user who started it may do, and runs the program."""
    user, group, *command = sys.argv[1:]
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
    os.execv(command[0], command)  # noqa: S606 - it is there already


if __name__ == "__main__":
    main()
