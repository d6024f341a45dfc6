"""Documents of fictional organisations, and the demo that runs on them."""
