"""Pages and figures: one template and one renderer (matplotlib), for results, maps and reports."""
