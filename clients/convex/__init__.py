"""Brings what an app kept on Convex into Inglenook, through its API."""
