"""Built-in critics, each a plugin of group `milr.rewards`; importing this package imports none of them.

geneval_rule   GenEval's rule and its dense twin, as pure functions
vocabulary     the classes, colours, numbers and relations of GenEval, and their plurals
sentences      from "a photo of two cats" to GenEval's metadata
detector       the detector of embedded scenes
geneval        the critic `geneval` and the judge `scenes-judge`
clip           the critic `clip`
"""
