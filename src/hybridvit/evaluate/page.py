"""A self-contained HTML page: the shell, tables, line charts and pictures that reports share."""
