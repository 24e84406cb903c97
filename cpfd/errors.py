"""The one exception that a user is meant to read."""


class CpfdError(Exception):
    """Something that the user can mend: the message names the file, row or key, what was found and what to do next.

    Commands and stages print the message without a stack trace and exit with 1.
    """
