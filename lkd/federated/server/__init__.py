"""The server side: rounds, aggregation, participation. It never imports the client."""
