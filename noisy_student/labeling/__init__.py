"""A teacher's predictions on unlabeled images, or predictions made elsewhere."""
