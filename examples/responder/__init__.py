"""The one who answers: how a service of one's own joins Inglenook."""
