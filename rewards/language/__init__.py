"""From a sentence to what must be in its picture, and from that to questions; GenEval's words."""
