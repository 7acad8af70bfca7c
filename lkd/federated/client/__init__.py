"""The client side: the context of a client, its training loop, its state. It never imports the server."""
