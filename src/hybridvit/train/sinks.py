"""Metrics sent to TensorBoard, wandb or trackio, beside metrics.jsonl."""
