"""Pictures in tar shards of the webdataset layout, read by number."""
