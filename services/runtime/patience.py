"""For how long somebody is left waiting while a part is away: a budget, and who may spend it.

A call is tried a few times by the gateway, each time at another process if there is one, and each
process waits a moment for its database to come back. Together they stay within the budget.
"""

BUDGET_SECONDS = 5.0
"""After how many seconds at most a person knows that the database is away."""

TRIES = 4
"""How often the gateway tries a call that may be tried again."""

AWAY_SECONDS = 1.0
"""How long a process waits for a database that it cannot connect to."""

RECONNECT_SECONDS = 0.5
"""How often a process tries to connect to it: often enough to be served within one such wait."""
