"""What a model looks at: attention maps and attribution, carried back to the picture, and figures of them."""
