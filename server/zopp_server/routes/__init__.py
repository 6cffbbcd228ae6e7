"""What the server answers, one module for each kind of thing; `app` has the table of routes."""
