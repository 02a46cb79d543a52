"""Pictures on disk to batches of tensors."""
