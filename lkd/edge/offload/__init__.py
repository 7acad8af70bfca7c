"""Edge offloading: a small student answers on the device, and a server is asked where that pays."""
