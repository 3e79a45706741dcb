"""The commands, each as an operator would use it."""
