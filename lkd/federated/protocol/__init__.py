"""What server and clients share: messages, descriptions of clients, and names of tensors."""
