"""What Flower's federated-analytics example does, written anew: pull rows, add up in Python."""
