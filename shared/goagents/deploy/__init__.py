"""What is deployed, and how it gets there. `functions.json` is the one description; Terraform reads it too."""
