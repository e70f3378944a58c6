"""Prediction: a predictor fitted on what has been measured, its quality, and what other models contribute."""
