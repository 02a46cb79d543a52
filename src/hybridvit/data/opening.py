"""What --data names, opened: folder, list, zip, tar shards or Hugging Face data set."""
