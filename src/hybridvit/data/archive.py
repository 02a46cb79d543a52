"""Pictures in a zip file of class folders."""
