"""The whole system on one machine: PostgreSQL, the services and the gateway, each a process."""
