"""A run as one self-contained HTML page, and several runs compared on one."""
