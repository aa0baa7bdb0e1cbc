"""What critics look with: networks of transformers and open_clip, and the detectors that ship with milr."""
