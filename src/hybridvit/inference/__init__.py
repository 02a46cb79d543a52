"""Pictures in, rows out: the same on one machine, behind a server, and in somebody else's workers."""
