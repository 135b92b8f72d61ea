"""HTTP: authenticate, parse, call, render. Each module has `routes`; `asgi.create` serves them."""
