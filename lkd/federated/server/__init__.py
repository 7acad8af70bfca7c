"""What runs at the server: rounds, aggregation, participation; it never imports the client."""
