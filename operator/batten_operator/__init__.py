"""How Batten is served in a cluster: the kopf operator, its HTTPS server and certificates."""
