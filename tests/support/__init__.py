"""What tests share: inputs that are made, runs, and places of shipped data."""
