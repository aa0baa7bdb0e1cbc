"""What the critic `judge` is made of: what is asked, how it is sent, and what is remembered."""
