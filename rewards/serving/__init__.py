"""Critics over HTTP: what travels, and the server; `http` is the critic that asks one."""
