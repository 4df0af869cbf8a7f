"""How a running application is looked at and told to drain: metrics, health, connections, as pages and resources."""
