"""The same jobs in other libraries, each as its users would write it."""
