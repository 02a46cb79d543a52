"""The command line: one file per command; torch is imported inside run(), so that --help is instant."""
