"""Does a model fit? Residuals, influence of clusters, normality of random effects; leaving groups out."""
