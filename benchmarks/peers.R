# Fits the random-intercept model with one R package and prints: log-likelihood, process seconds, elapsed seconds.
# Arguments: package, file of column-major doubles (y, groups ..., features ...), number of rows, of columns, of groups.
arguments <- commandArgs(trailingOnly = TRUE)
package <- arguments[1]
n <- as.integer(arguments[3])
k <- as.integer(arguments[4])
table <- matrix(readBin(arguments[2], "double", n * k), n, k)
n_groups <- as.integer(arguments[5])
groups <- paste0("group", seq_len(n_groups))
features <- paste0("x", seq_len(k - 1 - n_groups) - 1)
colnames(table) <- c("y", groups, features)
data <- as.data.frame(table)
data[groups] <- lapply(data[groups], factor)
terms <- c(features, sprintf("(1 | %s)", groups))
formula <- as.formula(paste("y ~", paste(terms, collapse = " + ")))

suppressPackageStartupMessages(library(package, character.only = TRUE))
fit <- switch(package,
  lme4 = function() {
    glmer(formula, data, family = binomial, control = glmerControl(optimizer = "nloptwrap"))
  },
  glmmTMB = function() {
    # The default tolerance stops a few 1e-6 short of the optimum.
    glmmTMB(formula, data, family = binomial, control = glmmTMBControl(optCtrl = list(rel.tol = 1e-14)))
  }
)
before <- proc.time()
model <- suppressWarnings(fit())
spent <- proc.time() - before
cat(format(c(logLik(model), spent[["user.self"]] + spent[["sys.self"]], spent[["elapsed"]]), digits = 15), "\n")
