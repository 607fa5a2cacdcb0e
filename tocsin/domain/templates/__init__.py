"""Templates of what is sent: their language, what they know of a notification, and the requests made of them."""
