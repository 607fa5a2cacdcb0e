"""Servers, network monitors and what is known of them."""
