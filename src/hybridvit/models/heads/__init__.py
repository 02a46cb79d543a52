"""What turns a backbone into a detector or a segmenter: a pyramid of maps, and heads assembled from torchvision's parts."""
