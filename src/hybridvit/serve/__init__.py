"""A local page and a JSON endpoint for one or more models."""
