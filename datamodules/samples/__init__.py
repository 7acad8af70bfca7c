"""What is known of samples before they are loaded, who goes where, and how rows become batches."""
