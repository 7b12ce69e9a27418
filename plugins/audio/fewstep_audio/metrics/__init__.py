"""What is measured about sounds."""
