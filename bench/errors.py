"""Why something could not be measured, in sentences for people."""


class BenchError(Exception):
    """It could not be measured; the text says why and what to do."""
