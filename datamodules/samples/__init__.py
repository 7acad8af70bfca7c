"""What is known of samples before they are loaded, how they are split, and how rows become batches."""
