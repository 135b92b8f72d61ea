"""The configuration format: its models, how it is read, and what `${…}` refers to."""
