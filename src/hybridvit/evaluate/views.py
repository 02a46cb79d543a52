"""Several views of a picture, and several models, averaged."""
