"""What server and clients both know: messages, who a client is, and names of tensors."""
