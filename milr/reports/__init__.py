"""Pictures, tables and pages made from a run folder."""
