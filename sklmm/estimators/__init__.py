"""Parts of the scikit-learn face: what the estimators share, and the methods they are put together from."""
