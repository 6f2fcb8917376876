"""What a trained model is for: predictions, features, export."""
