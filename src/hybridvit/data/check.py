"""What is wrong with a data set: broken, duplicated, tiny and suspicious pictures, and its balance."""
