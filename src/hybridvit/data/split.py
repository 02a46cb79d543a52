"""Part of a source: a share held out for judging."""
