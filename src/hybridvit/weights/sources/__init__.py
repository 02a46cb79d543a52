"""One table per published implementation."""
