"""Pictures named in a list file: one path and label per line."""
