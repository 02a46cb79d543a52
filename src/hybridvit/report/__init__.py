"""Reports: a run, several runs, a data set, a model, each on one page."""
