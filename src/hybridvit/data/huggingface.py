"""Pictures in a Hugging Face data set that was saved to disk."""
