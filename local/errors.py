"""Why a launcher gives up, in sentences for people."""


class StackError(Exception):
    """It cannot run as it is; the text says what is wrong and what to do."""


class ProcessDiedError(StackError):
    """A process ended by itself; the text says which one and shows the end of its log."""


class StopRequestedError(Exception):
    """The launcher was told to stop."""
