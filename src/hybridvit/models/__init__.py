"""CMT and CvT, and the catalogue of their published sizes and arithmetics."""
