"""Built-in critics, each a plugin of group `milr.rewards`; importing this package imports none of them.

A module here is a critic, but for `geneval_rule`: GenEval's rule and its dense twin, as pure functions. In folders:

compbench   T2I-CompBench's categories, each a critic
language    from "a photo of two cats" to what must be in the picture
networks    what critics look with: other people's networks, and the embedded detectors
judging     what the critic `judge` is made of
serving     critics over HTTP
weights     the embedded networks
"""
