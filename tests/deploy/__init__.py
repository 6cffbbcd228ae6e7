"""How the server is deployed: image, compose file, chart."""
