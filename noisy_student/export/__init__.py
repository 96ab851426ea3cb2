"""A trained model for others: SavedModel, TFLite, model card; and predicting with it."""
