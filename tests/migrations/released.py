"""The last release: what a migration has to get along with."""

COMMIT = "5d3e237dc1136a81a3b6aa917c87f7f5a13347d3"
"""Its commit."""
HEADS = {"users": "0004", "sessions": "0004", "messages": "0007"}
"""The latest migration of each service that it has; those after it are new."""
