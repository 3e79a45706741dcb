"""What calls cost, measured."""
