"""What turns a backbone's features into boxes or masks."""
