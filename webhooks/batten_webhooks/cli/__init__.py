"""The `batten` command. Each subcommand imports what it needs when it runs, to start quickly."""


class CannotRun(Exception):
    """Unusable input or usage: the message is one line for stderr, the exit code 2."""
