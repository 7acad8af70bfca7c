"""What runs where the data is: the context of a client, its training loop, its state; it never imports the server."""
