"""The command line: one module per command, and what they share.

main       the group, and how an error becomes one line and an exit code
generate   milr generate
listing    milr list
doctor     milr doctor
settings   which value holds: command line, --config, the resumed run, --preset or default
arguments  values of --set, and what a plugin takes
progress   what a run says on stderr
results    what a run says on stdout
extras     what an optional dependency still needs
"""
